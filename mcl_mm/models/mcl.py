"""Multi-Level Contrastive Learning: the algorithm."""

from copy import deepcopy
from typing import Optional, Union

import torch
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mcl_mm.datasets.montage import Montage
from mcl_mm.registry import MODELS


@MODELS.register_module()
class MCL(BaseSelfSupervisor):
    """MCL.

    Implementation of `Multi-Level Contrastive Learning for Dense Prediction Task
    <https://arxiv.org/abs/2304.02010>`_.

    The target is a copy of backbone and neck that follows them as a moving average. After every
    optimiser update somebody has to call :meth:`update_target`: in a Runner that is
    :class:`~mcl_mm.engine.TargetUpdateHook`, which a config lists under ``custom_hooks``.

    Args:
        backbone (dict): A backbone with stages of stride 4, 8, 16 and 32, such as
            ``mmpretrain.ResNet`` with ``out_indices=(0, 1, 2, 3)``.
        neck (dict): An :class:`MCLNeck`.
        head (dict): A :class:`MultiLevelContrastiveHead`.
        data_preprocessor (dict): A :class:`MontageDataPreprocessor`.
        routed (bool): Send each sheet only through what its loss reads, and only full images through
            the target: about a third of the compute. What changes is which cells share a BN batch.
            Defaults to False, all sheets of a side together, as published.
        channels_last (bool): Keep weights, and with them all maps, in channels-last memory format,
            which convolutions prefer in half precision on a GPU. Nothing else changes, but the
            same seed initialises other weights: they are drawn in the order of memory. Defaults to
            False.
        init_cfg (dict, optional): Initialisation. Defaults to None, the parts' own.

    Raises:
        ValueError: The parts differ in their levels.
    """

    # Far above any gradient accumulation, and reached within minutes.
    MAX_LOSSES_WITHOUT_UPDATE = 1000

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        data_preprocessor: dict,
        routed: bool = False,
        channels_last: bool = False,
        init_cfg: Optional[Union[dict, list[dict]]] = None,
    ) -> None:
        super().__init__(
            backbone=MODELS.build(backbone),
            neck=MODELS.build(neck),
            head=MODELS.build(head),
            data_preprocessor=MODELS.build(data_preprocessor),
            init_cfg=init_cfg,
        )
        self.target = nn.ModuleDict(
            dict(backbone=deepcopy(self.backbone), neck=deepcopy(self.neck))
        ).requires_grad_(False)
        self.routed = routed
        self.losses_since_update = 0
        self._check_levels()
        if channels_last:  # convolutions follow the format of their weights
            self.to(memory_format=torch.channels_last)

    def init_weights(self) -> None:
        """Initialise the online network and make the target a copy of it."""
        super().init_weights()
        self.target.backbone.load_state_dict(self.backbone.state_dict())
        self.target.neck.load_state_dict(self.neck.state_dict())

    def loss(
        self, inputs: tuple[Montage, Montage], data_samples: Optional[list[DataSample]] = None
    ) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            inputs (tuple[Montage, Montage]): Sides *q* and *k*, from the data preprocessor.
            data_samples (list[DataSample], optional): Not used.

        Returns:
            dict[str, Tensor]: See :meth:`MultiLevelContrastiveHead.loss`.
        """
        self._check_target_follows()
        q, k = inputs
        online_q, online_k = self.embed_tiles(q), self.embed_tiles(k)
        with torch.no_grad():
            target_q, target_k = self.embed_images(q), self.embed_images(k)
        return self.head.loss((online_q, online_k), (q.sources, k.sources), (target_q, target_k))

    def embed_tiles(self, montage: Montage) -> list[Tensor]:
        """Online embeddings of the tiles, per level ``(M_k * r_k**2, D)``.

        Unless routed, all sheets are one batch for the backbone, the FPN and, level by level, the
        projector; then each montage level takes its own sheets' cells from the pyramid level it is
        read from.
        """
        levels = range(len(montage.sheets))
        if self.routed:
            return [self.neck(self.backbone(montage.sheets[k]), [k])[0] for k in levels]
        counts = [len(sheets) for sheets in montage.sheets]
        cells = self.neck(self.backbone(torch.cat(montage.sheets)), levels)
        return [
            cells[k].unflatten(0, (sum(counts), -1)).split(counts)[k].flatten(0, 1) for k in levels
        ]

    def embed_images(self, montage: Montage) -> Tensor:
        """Target embeddings of the ``B`` full images, ``(B, D)``.

        Unless routed, the other sheets pass along: they belong to the same BN batch.
        """
        images = montage.sheets[0]
        sheets = images if self.routed else torch.cat(montage.sheets)
        return self.target.neck(self.target.backbone(sheets), [0])[0][: len(images)]

    @torch.no_grad()
    def update_target(self, momentum: float) -> None:
        """Move the target's parameters: ``target = m * target + (1 - m) * online``.

        Buffers are left alone: the target's BN statistics are its own.

        Args:
            momentum (float): ``m``, in [0, 1].
        """
        online = [*self.backbone.parameters(), *self.neck.parameters()]
        get_ema_multi_avg_fn(momentum)(list(self.target.parameters()), online, None)
        self.losses_since_update = 0

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The feature pyramid of images: what a detector gets.

        Args:
            inputs (Tensor): Normalised images, ``(N, 3, H, W)``.

        Returns:
            tuple[Tensor]: P2 to P5, ``(N, C, H / 4, W / 4)`` to ``(N, C, H / 32, W / 32)``.
        """
        return self.neck.fpn(self.backbone(inputs))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args) -> None:
        """A checkpoint without a target (an export, another method's) starts it from the online."""
        if not any(key.startswith(f'{prefix}target.') for key in state_dict):
            for part in ('backbone.', 'neck.'):
                for key in [key for key in state_dict if key.startswith(prefix + part)]:
                    state_dict[f'{prefix}target.{key[len(prefix) :]}'] = state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _check_levels(self) -> None:
        ratios = tuple(self.data_preprocessor.montage.ratios)
        if ratios != tuple(2**level for level in range(len(ratios))):
            raise ValueError(
                f'pyramid levels halve their resolution, so ratios must be 1, 2, 4, ..., got {ratios}'
            )
        levels = len(self.head.predictors)
        if not len(ratios) == levels <= self.neck.num_levels:
            raise ValueError(
                f'montage ({len(ratios)} ratios) and head ({levels} loss_weights) must have the same '
                f'number of levels, at most the {self.neck.num_levels} of the neck'
            )

    @torch.compiler.disable  # it would be compiled again for every count
    def _check_target_follows(self) -> None:
        self.losses_since_update += self.training
        if self.losses_since_update > self.MAX_LOSSES_WITHOUT_UPDATE:
            raise RuntimeError(
                f'the target has not moved for {self.MAX_LOSSES_WITHOUT_UPDATE} training steps: add '
                "dict(type='mcl_mm.TargetUpdateHook') to custom_hooks, or call MCL.update_target "
                'after each optimiser update'
            )
