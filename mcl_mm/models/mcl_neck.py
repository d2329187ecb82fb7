"""From backbone features to one embedding per tile: feature pyramid and region projector."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Optional, Union

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mcl_mm.registry import MODELS

from .montage import cut


@MODELS.register_module()
class RegionProjector(BaseModule):
    """Embed square cells of a feature map: 3x3 convs, average pool, a two-layer MLP.

    Its convs (conv-BN-ReLU, zero-padded inside the cell) have the shape of the shared convs of a
    4conv1fc box head, which is where they go after pre-training.

    Args:
        channels (int): Channels of the cells and of the convs. Defaults to 256.
        num_convs (int): Number of convs. Defaults to 4.
        hid_channels (int): Width of the MLP's hidden layer. Defaults to 2048.
        out_channels (int): Length of an embedding. Defaults to 256.
        norm_cfg (dict): Normalisation of convs and MLP; the MLP's last one has no affine
            parameters. Defaults to ``dict(type='BN')``.
        init_cfg (dict, optional): Initialisation. Defaults to None: convs Kaiming normal fan-out,
            linear layers Kaiming normal fan-in with zero bias.
    """

    def __init__(
        self,
        channels: int = 256,
        num_convs: int = 4,
        hid_channels: int = 2048,
        out_channels: int = 256,
        norm_cfg: dict = dict(type='BN'),
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg)
        self.convs = nn.Sequential(
            *(
                ConvModule(channels, channels, 3, padding=1, norm_cfg=norm_cfg)
                for _ in range(num_convs)
            )
        )
        self.mlp = MODELS.build(
            dict(
                type='mmpretrain.NonLinearNeck',
                in_channels=channels,
                hid_channels=hid_channels,
                out_channels=out_channels,
                with_bias=True,
                with_last_bias=True,
                with_last_bn_affine=False,
                with_avg_pool=True,
                norm_cfg=mlp_norm_cfg(norm_cfg),
                init_cfg=[
                    dict(type='Kaiming', layer='Linear', mode='fan_in', bias=0),
                    dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1),
                ],
            )
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Embed cells ``(N, C, c, c)`` as ``(N, D)``."""
        return self.mlp((self.convs(cells),))[0]


@MODELS.register_module()
class MCLNeck(BaseModule):
    """MMDetection's FPN, and a region projector shared by its levels.

    Level ``k`` of the montage (``2**k`` tiles along a side of a sheet) is read from the pyramid
    level whose map shows a tile as one cell: full images on P5, 2x2 sheets on P4, 4x4 on P3 and 8x8
    on P2. A cell is as large as the whole P5 map: ``S / 32``, 7x7 for sheets of 224 pixels.

    Args:
        in_channels (Sequence[int]): Channels of the backbone's stages, finest first.
        out_channels (int): Channels of pyramid and projector. Defaults to 256.
        hid_channels (int): Width of the projector's hidden layer. Defaults to 2048.
        embed_channels (int): Length ``D`` of an embedding. Defaults to 256.
        num_convs (int): Convs of the projector. Defaults to 4.
        norm_cfg (dict): Normalisation of pyramid and projector. Defaults to ``dict(type='BN')``.
        track_level (int, optional): The montage level whose cells alone move the projector's running BN
            statistics, and those of what the levels pass each by itself (``joint`` of the model).
            Defaults to None, every level.
        init_cfg (dict, optional): Initialisation. Defaults to None: the FPN's own (Xavier uniform)
            and the projector's own.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        hid_channels: int = 2048,
        embed_channels: int = 256,
        num_convs: int = 4,
        norm_cfg: dict = dict(type='BN'),
        track_level: Optional[int] = None,
        init_cfg: Optional[Union[dict, list[dict]]] = None,
    ) -> None:
        super().__init__(init_cfg)
        self.track_level = track_level
        self.fpn = MODELS.build(
            dict(
                type='mmdet.FPN',
                in_channels=list(in_channels),
                out_channels=out_channels,
                num_outs=len(in_channels),
                norm_cfg=norm_cfg,
            )
        )
        self.projector = RegionProjector(
            out_channels, num_convs, hid_channels, embed_channels, norm_cfg
        )

    @property
    def num_levels(self) -> int:
        """Number of pyramid levels, the most levels a montage can have."""
        return len(self.fpn.lateral_convs)

    def tracks(self, level: int) -> bool:
        """Whether a montage level moves running statistics."""
        return self.track_level in (None, level)

    def forward(
        self,
        feats: Sequence[Tensor],
        levels: Optional[Sequence[int]] = None,
        cell: Optional[int] = None,
    ) -> tuple[Tensor, ...]:
        """Embed every cell of every sheet, on the pyramid levels that montage levels are read from.

        Args:
            feats (Sequence[Tensor]): Backbone features of ``N`` sheets, finest first,
                ``(N, C_i, S / stride_i, S / stride_i)``.
            levels (Sequence[int], optional): The montage levels ``k`` wanted. Defaults to None, all
                that the pyramid has.
            cell (int, optional): Side of a cell, in pixels of a map. Defaults to None, that of the
                coarsest map.

        Returns:
            tuple[Tensor]: For each of ``levels``, in that order, ``(N * 4**k, D)``: sheet by sheet,
            row by row within a sheet. ``(N, D)`` where a whole map is one cell: of tiles that are
            images of their own.

        Raises:
            ValueError: A map that does not consist of whole cells.
        """
        levels = range(self.num_levels) if levels is None else levels
        cell = feats[-1].shape[-1] if cell is None else cell
        with running_statistics(self.fpn, any(map(self.tracks, levels))):
            maps = self.pyramid(feats, levels)
        for level in levels:
            if maps[level].shape[-1] not in (cell, cell * 2**level):
                raise ValueError(
                    f'montage level {level} is read in cells of {cell} from a map of '
                    f'{maps[level].shape[-1]}, which must be {cell * 2**level}: the side of the '
                    'sheets must be a multiple of 32 pixels, and stages must halve the resolution'
                )
        # From the finest map to the coarsest: running BN statistics depend on the order.
        embedded = {}
        for level in sorted(levels, reverse=True):
            with running_statistics(self.projector, self.tracks(level)):
                embedded[level] = self.projector(cut(maps[level], cell))
        return tuple(embedded[level] for level in levels)

    def pyramid(self, feats: Sequence[Tensor], levels: Sequence[int]) -> dict[int, Tensor]:
        """The FPN's maps for montage levels ``levels``, keyed by level.

        Computes what ``self.fpn`` does, without the maps that nobody reads.
        """
        top = self.num_levels - 1
        maps, merged = {}, None
        for level in range(max(levels) + 1):
            stage = top - level
            lateral = self.fpn.lateral_convs[stage](feats[stage])
            if merged is not None:
                lateral = lateral + F.interpolate(merged, lateral.shape[2:], mode='nearest')
            merged = lateral
            if level in levels:
                maps[level] = self.fpn.fpn_convs[stage](merged)
        return maps


@contextmanager
def running_statistics(module: nn.Module, move: bool) -> Iterator[None]:
    """Let a module's BN layers move their running statistics, or leave them where they are."""
    layers = [] if move else [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    try:
        for layer in layers:
            layer.momentum = 0.0
        yield
    finally:
        for layer, momentum in zip(layers, momenta):
            layer.momentum = momentum


def mlp_norm_cfg(norm_cfg: dict) -> dict:
    """``norm_cfg`` for features without a map: BN of any kind is 1-d, the others stay."""
    return dict(norm_cfg, type='BN1d') if norm_cfg['type'] in ('BN', 'BN2d') else norm_cfg
