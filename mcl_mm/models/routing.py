"""Which sheets of a side meet in the network, and so in a batch of batch norm."""

import logging
from collections.abc import Sequence
from typing import Optional

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from .mcl_neck import running_statistics
from .montage import Montage

JOINT = ('all', 'backbone', 'none')


def embed(
    network: nn.Module, montage: Montage, levels: Sequence[int], joint: str
) -> dict[int, Tensor]:
    """Embed the tiles of some levels of a side.

    Args:
        network (nn.Module): Has a ``backbone`` and an :class:`MCLNeck`, ``neck``.
        montage (Montage): The side.
        levels (Sequence[int]): The levels ``k`` wanted.
        joint (str): What all sheets of the side pass together, see :class:`MontageModel`. What is left
            each level's sheets pass alone, and only as far as the level is read.

    Returns:
        dict[int, Tensor]: By level ``(M_k * r_k**2, D)``.
    """
    cell = montage.sheets[0].shape[-1] // 32  # a tile is as large on its level as a sheet on P5
    if joint == 'none':
        embeddings = {}
        for k in levels:
            with running_statistics(network.backbone, network.neck.tracks(k)):
                maps = network.backbone(montage.sheets[k])
            (embeddings[k],) = network.neck(maps, [k], cell)
        return embeddings
    counts = [len(sheets) for sheets in montage.sheets]
    stages = network.backbone(torch.cat(montage.sheets))
    if joint == 'backbone':
        own = [stage.split(counts) for stage in stages]
        return {k: network.neck([stage[k] for stage in own], [k], cell)[0] for k in levels}
    embeddings = {}
    for k, cells in zip(levels, network.neck(stages, levels, cell)):
        by_sheet = cells.unflatten(0, (sum(counts), -1))
        embeddings[k] = by_sheet.split(counts)[k].flatten(0, 1)
    return embeddings


def level_groups(num_levels: int, joint: str) -> list[Sequence[int]]:
    """The levels that one call of the backbone embeds: all, or each by itself."""
    return [[k] for k in range(num_levels)] if joint == 'none' else [range(num_levels)]


def check_joint(joint: str, routed: Optional[bool] = None) -> str:
    """The setting ``joint``, also of a config that still says ``routed``.

    Raises:
        ValueError: There is no such setting.
    """
    if routed is not None:
        joint, given = ('none' if routed else 'all'), joint
        print_log(
            f'model.routed is now model.joint, one of {", ".join(map(repr, JOINT))}: write joint={joint!r} '
            f'for routed={routed}, which counts here instead of joint={given!r}',
            'current',
            level=logging.WARNING,
        )
    if joint not in JOINT:
        raise ValueError(f'model.joint must be one of {", ".join(map(repr, JOINT))}, got {joint!r}')
    return joint
