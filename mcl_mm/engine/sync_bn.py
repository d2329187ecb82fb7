"""Which processes share the statistics of synchronised batch norm."""

import copyreg
import platform
from collections.abc import Sequence
from typing import Optional, Union

from mmengine.dist import all_gather_object, get_world_size
from torch import distributed, nn

from mcl_mm.models.modules import is_synchronised

Setting = Optional[Union[str, int]]


def group_batch_norm(model: nn.Module, setting: Setting) -> None:
    """Have the synchronised batch norm of a model take its statistics from groups of processes.

    To be called on all processes, before the model is trained.

    Args:
        model (nn.Module): Its layers change in place, all of them to the same group.
        setting (str or int, optional): ``sync_bn_group`` of a config, see :func:`rank_groups`.

    Raises:
        ValueError: See :func:`rank_groups`; or a layer is MMCV's and cannot be grouped.
    """
    groups = rank_groups(setting, all_gather_object(platform.node()))
    layers = list(filter(is_synchronised, model.modules()))
    if len(groups) == 1 or not layers:
        return
    if not all(isinstance(layer, nn.SyncBatchNorm) for layer in layers):
        raise ValueError(
            f"sync_bn_group={setting!r} needs PyTorch's batch norm: set sync_bn='torch', and "
            "norm_cfg=dict(type='SyncBN') in place of 'MMSyncBN'"
        )
    own, _ = distributed.new_subgroups_by_enumeration(groups)
    # Copies of the model, as EMAHook makes one, share the group: a string says there is only one of it.
    copyreg.pickle(type(own), lambda group: 'process_group')
    for layer in layers:
        layer.process_group = own


def rank_groups(setting: Setting, machines: Sequence[str]) -> list[list[int]]:
    """The ranks that share statistics, group by group.

    Args:
        setting (str or int, optional): ``'machine'``: those of a machine; a number: so many, in order of
            rank; ``'all'`` or None: all, as MMEngine has it. One process is a group by itself.
        machines (Sequence[str]): Of every rank the name of its machine.

    Raises:
        ValueError: There is no such setting, or the number does not divide that of the processes.
    """
    count = len(machines)
    if setting is None or setting == 'all':
        return [list(range(count))]
    if setting == 'machine':
        ranks: dict[str, list[int]] = {}
        for rank, machine in enumerate(machines):
            ranks.setdefault(machine, []).append(rank)
        return list(ranks.values())
    if isinstance(setting, bool) or not isinstance(setting, int) or setting < 1:
        raise ValueError(
            f"sync_bn_group must be 'machine', 'all' or a number of processes, got {setting!r}"
        )
    if count == 1:
        return [[0]]
    if count % setting:
        fits = ', '.join(str(n) for n in range(1, count + 1) if count % n == 0)
        raise ValueError(
            f'sync_bn_group={setting} does not divide the {count} processes of this run: take one of '
            f"{fits}, 'machine' or 'all'"
        )
    return [list(range(first, first + setting)) for first in range(0, count, setting)]


def sharing(model: nn.Module) -> Optional[int]:
    """Processes whose images meet in a statistic of a model; None without synchronised batch norm."""
    sizes = [
        get_world_size(getattr(layer, 'process_group', None))
        for layer in model.modules()
        if is_synchronised(layer)
    ]
    return min(sizes, default=None)
