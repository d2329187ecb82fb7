"""Multi-Level Contrastive Learning: the algorithm."""

from copy import deepcopy
from typing import Optional

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torchvision.ops import StochasticDepth

from mcl_mm.registry import MODELS

from .montage import Montage
from .montage_model import MontageModel
from .multi_level_contrastive_head import gather_targets
from .routing import embed


@MODELS.register_module()
class MCL(MontageModel):
    """MCL.

    Implementation of `Multi-Level Contrastive Learning for Dense Prediction Task
    <https://arxiv.org/abs/2304.02010>`_.

    The target is a copy of backbone and neck, without dropout and stochastic depth, that follows them
    as a moving average. After every optimiser update somebody has to call :meth:`update_target`: in
    a Runner that is :class:`~mcl_mm.engine.TargetUpdateHook`, which a config lists under
    ``custom_hooks``.

    Args:
        *args: ``backbone``, ``neck``, ``head`` (a :class:`MultiLevelContrastiveHead`) and
            ``data_preprocessor``, see :class:`MontageModel`.
        symmetric (bool): Have both sides predict the other's targets. Otherwise side *q* alone
            predicts those of side *k*: half of the losses for half of the compute. Defaults to True.
        **kwargs: ``joint`` and the rest of :class:`MontageModel`.
    """

    # Far above any gradient accumulation, and reached within minutes.
    MAX_LOSSES_WITHOUT_UPDATE = 1000

    def __init__(self, *args, symmetric: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.target = nn.ModuleDict(
            dict(backbone=deepcopy(self.backbone), neck=deepcopy(self.neck))
        ).requires_grad_(False)
        switch_off_dropout(self.target)
        self.symmetric = symmetric
        self.losses_since_update = 0
        self.register_load_state_dict_pre_hook(start_target)
        self.register_forward_pre_hook(check_target_follows)

    def init_weights(self) -> None:
        """Initialise the online network and make the target a copy of it."""
        super().init_weights()
        self.target.backbone.load_state_dict(self.backbone.state_dict())
        self.target.neck.load_state_dict(self.neck.state_dict())

    def loss(
        self, inputs: tuple[Montage, Montage], data_samples: Optional[list[DataSample]] = None
    ) -> dict[str, Tensor]:
        """The loss of a batch: each side's tiles against the other side's images.

        Args:
            inputs (tuple[Montage, Montage]): Sides *q* and *k*, from the data preprocessor.
            data_samples (list[DataSample], optional): Not used.

        Returns:
            dict[str, Tensor]: :meth:`MultiLevelContrastiveHead.loss` of both sides.
        """
        tiles, images = (inputs, inputs) if self.symmetric else (inputs[:1], inputs[1:])
        with torch.no_grad():
            targets = gather_targets([self.embed_images(side) for side in images])
        sides = zip('qk', tiles, reversed(targets))  # q learns from k, k from q
        return self.merge(
            self.head.loss(self.embed_tiles(side, levels), side.sources, target, name)
            for name, side, target in sides
            for levels in self.level_groups  # those that pass the network together
        )

    def embed_images(self, montage: Montage) -> Tensor:
        """Target embeddings of the ``B`` full images, ``(B, D)``.

        What is joint the other sheets pass along: they belong to the same BN batch.
        """
        return embed(self.target, montage, [0], self.joint)[0]

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


def start_target(model: MCL, state_dict: dict, prefix: str, *_) -> None:
    """A checkpoint without a target (an export, another method's) starts it from the online."""
    if any(key.startswith(f'{prefix}target.') for key in state_dict):
        return
    for key in list(state_dict):
        if key.startswith((f'{prefix}backbone.', f'{prefix}neck.')):
            state_dict[f'{prefix}target.{key[len(prefix) :]}'] = state_dict[key]


@torch.compiler.disable  # it would be compiled again for every count
def check_target_follows(model: MCL, _: tuple) -> None:
    """Notice that nobody calls :meth:`MCL.update_target`."""
    model.losses_since_update += model.training
    if model.losses_since_update > model.MAX_LOSSES_WITHOUT_UPDATE:
        raise RuntimeError(
            f'the target has not moved for {model.MAX_LOSSES_WITHOUT_UPDATE} training steps: add '
            "dict(type='mcl_mm.TargetUpdateHook') to custom_hooks, or call MCL.update_target "
            'after each optimiser update'
        )


def switch_off_dropout(network: nn.Module) -> None:
    """Set the probabilities of dropout and stochastic depth to 0, for good, in training mode too."""
    for module in network.modules():
        if isinstance(module, (_DropoutNd, StochasticDepth)):
            module.p = 0.0
        elif hasattr(module, 'drop_prob'):  # stochastic depth of MMCV and timm
            module.drop_prob = 0.0
