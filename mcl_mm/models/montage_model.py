"""What all ways of learning from a montage share: backbone, pyramid and projector."""

from collections.abc import Iterable, Sequence
from typing import Optional, Union

import torch
from mmpretrain.models import BaseSelfSupervisor
from torch import Tensor, nn

from mcl_mm.registry import MODELS

from .early_backward import backpropagate
from .montage import Montage
from .routing import check_joint, embed, level_groups


class MontageModel(BaseSelfSupervisor):
    """A network that embeds the tiles of a montage, level by level.

    Args:
        backbone (dict): A backbone with stages of stride 4, 8, 16 and 32, such as
            ``mmpretrain.ResNet`` with ``out_indices=(0, 1, 2, 3)``.
        neck (dict): An :class:`MCLNeck`. Without ``in_channels`` it gets those of the backbone.
        head (dict): What learns from the embeddings; has a loss weight per level, ``loss_weights``.
        data_preprocessor (dict): A :class:`MontageDataPreprocessor`.
        joint (str): What all sheets of a side pass together, as one BN batch: ``'all'``, backbone,
            pyramid and projector, as published; ``'backbone'``, which leaves its statistics as
            published, and each sheet then goes on only to what its loss reads; ``'none'``, each level
            by itself from the start. The last two take a third of the compute. Defaults to ``'all'``.
        channels_last (bool): Keep weights, and with them all maps, in channels-last memory format,
            which convolutions prefer in half precision on a GPU. Nothing else changes, but the
            same seed initialises other weights: they are drawn in the order of memory. Defaults to
            False.
        early_backward (bool): Compute the gradients of what a call of the backbone embeds (a side, or with
            ``joint='none'`` a side's level) before the rest is embedded, in about half of the memory or
            less. They are the same. Not with float16, whose gradients need a loss scaler, nor with
            MMEngine's ``compile`` and ``activation_checkpointing``; with several processes the exchange
            of gradients begins when all are there. Defaults to False.
        routed (bool, optional): What ``joint`` was called before: True is ``'none'``, False ``'all'``.
            Defaults to None.
        init_cfg (dict, optional): Initialisation. Defaults to None, the parts' own.

    Raises:
        ValueError: The parts differ in their levels or channels, or the backbone has other stages.
    """

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        head: dict,
        data_preprocessor: dict,
        joint: str = 'all',
        channels_last: bool = False,
        early_backward: bool = False,
        routed: Optional[bool] = None,
        init_cfg: Optional[Union[dict, list[dict]]] = None,
    ) -> None:
        channels = backbone.get('in_channels')
        backbone = MODELS.build(backbone)
        if 'in_channels' not in neck:
            neck = dict(neck, in_channels=stage_channels(backbone, channels=channels or 3))
        super().__init__(
            backbone=backbone,
            neck=MODELS.build(neck),
            head=MODELS.build(head),
            data_preprocessor=MODELS.build(data_preprocessor),
            init_cfg=init_cfg,
        )
        self.joint = check_joint(joint, routed)
        self.early_backward = early_backward
        self._check_channels(channels)
        self._check_levels()
        if channels_last:  # convolutions follow the format of their weights
            self.to(memory_format=torch.channels_last)

    @property
    def level_groups(self) -> list[Sequence[int]]:
        """The levels that are embedded together: all, or each by itself."""
        return level_groups(len(self.head.loss_weights), self.joint)

    def embed_tiles(
        self, montage: Montage, levels: Optional[Sequence[int]] = None
    ) -> dict[int, Tensor]:
        """Embeddings of the tiles, per level ``(M_k * r_k**2, D)``.

        Args:
            montage (Montage): One side.
            levels (Sequence[int], optional): The levels wanted. Defaults to None, all.

        Returns:
            dict[int, Tensor]: By level.
        """
        levels = range(len(montage.sheets)) if levels is None else levels
        return embed(self, montage, levels, self.joint)

    def merge(self, parts: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
        """One dict of the scalars of all parts of a loss, which are made when they are asked for."""
        if self.early_backward:
            return backpropagate(parts, self)
        return {name: value for part in parts for name, value in part.items()}

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The feature pyramid of images: what a detector gets.

        Args:
            inputs (Tensor): Normalised images, ``(N, 3, H, W)``.

        Returns:
            tuple[Tensor]: P2 to P5, ``(N, C, H / 4, W / 4)`` to ``(N, C, H / 32, W / 32)``.
        """
        return self.neck.fpn(self.backbone(inputs))

    def _check_channels(self, channels: Optional[int]) -> None:
        means = getattr(self.data_preprocessor, 'mean', None)
        if means is not None and len(means) not in (1, channels or 3):
            raise ValueError(
                f'data_preprocessor has means of {len(means)} channels and the backbone takes '
                f'{channels or 3}: set model.backbone.in_channels={len(means)}, or channels=N at the top of '
                'the config'
            )
        if channels is not None:
            self.data_preprocessor.channels = channels

    def _check_levels(self) -> None:
        montage = self.data_preprocessor.montage
        ratios, levels = tuple(montage.ratios), len(self.head.loss_weights)
        if ratios != tuple(2**level for level in range(len(ratios))):
            raise ValueError(
                f'pyramid levels halve their resolution, so ratios must be 1, 2, 4, ..., got {ratios}'
            )
        if not len(ratios) == levels <= self.neck.num_levels:
            raise ValueError(
                f'montage ({len(ratios)} ratios) and head ({levels} loss_weights) must have the same '
                f'number of levels, at most the {self.neck.num_levels} of the neck'
            )
        if not montage.pasted and self.joint != 'none':
            raise ValueError(
                'tiles that are not pasted differ in size from level to level and cannot be one '
                "batch: set model.joint='none'"
            )


def stage_channels(backbone: nn.Module, side: int = 224, channels: int = 3) -> list[int]:
    """The widths of a backbone's four stages, finest first, found by running it.

    Args:
        backbone (nn.Module): On the CPU. Its statistics and the random numbers stay as they are.
        side (int): Of the image to run it on, pixels. Defaults to 224: some backbones take nothing
            smaller, or nothing else.
        channels (int): Of that image. Defaults to 3.

    Raises:
        NoPyramidError: It does not give four maps of stride 4, 8, 16 and 32.
        ValueError: It does not run.
    """
    maps = feature_maps(backbone, side, channels)
    if strides(maps, side) != [4, 8, 16, 32]:
        raise NoPyramidError(
            f'{type(backbone).__name__} gives maps of stride {strides(maps, side)}, but MCL pre-trains '
            'backbones with four stages of stride 4, 8, 16 and 32, which out_indices choose'
        )
    return [m.shape[1] for m in maps]


def feature_maps(backbone: nn.Module, side: int, channels: int = 3) -> list[Tensor]:
    """What a backbone makes of a black square image, in evaluation mode.

    Raises:
        NoPyramidError: It gives something else than maps.
        ValueError: It does not run.
    """
    training = backbone.training
    try:
        with torch.no_grad():
            backbone.eval()  # MMDetection's backbones do not return themselves from it
            maps = backbone(torch.zeros(1, channels, side, side))
    except Exception as error:  # foreign code
        raise ValueError(f'{type(backbone).__name__} does not run: {error}') from error
    finally:
        backbone.train(training)
    if not isinstance(maps, (list, tuple)) or not all(
        torch.is_tensor(m) and m.dim() == 4 for m in maps
    ):
        raise NoPyramidError(
            f'{type(backbone).__name__} gives no list of maps (N, C, H, W), but MCL pre-trains backbones '
            'with four stages of stride 4, 8, 16 and 32'
        )
    return list(maps)


def strides(maps: list[Tensor], side: int) -> list[int]:
    """Pixels of an image of ``side`` pixels per pixel of each map."""
    return [side // m.shape[-1] for m in maps]


class NoPyramidError(ValueError):
    """A backbone has no four maps of stride 4, 8, 16 and 32, which MCL needs."""
