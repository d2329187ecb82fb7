"""Training without a GPU: which precision, and what has to give way to something else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Optional

import torch
from mmcv.ops import roi_align
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import DefaultScope
from torch import nn

from mcl_mm.config import type_name
from mcl_mm.registry import MODELS, OPTIM_WRAPPERS

from .launchers import join_processes

DTYPES = ('bfloat16', 'float32')


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """bfloat16 autocast on the CPU, for which MMEngine's ``AmpOptimWrapper`` asks for a GPU.

    Gradients are scaled by nothing: bfloat16 has the range of float32. Checkpoints fit those of
    ``AmpOptimWrapper`` both ways.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """What the forward pass runs in."""
        with super().optim_context(model), torch.autocast('cpu', dtype=torch.bfloat16):
            yield


def adapt_to_cpu(cfg: Config, options: Optional[Mapping[str, Any]] = None) -> None:
    """Replace in a config what needs a GPU, and say so; join the processes of a launcher.

    Args:
        cfg (Config): Changed in place.
        options (Mapping[str, Any], optional): What ``--cfg-options`` has set; an ``optim_wrapper.dtype``
            in it wins over what the CPU is good at. Defaults to None.

    Raises:
        ValueError: The launcher or the precision needs a GPU.
    """
    if type_name(cfg.get('optim_wrapper') or {}) == 'AmpOptimWrapper':
        detects = cfg.get('default_scope') == 'mmdet'
        choose_precision(cfg.optim_wrapper, (options or {}).get('optim_wrapper.dtype'), detects)
    if (cfg.get('model') or {}).get('channels_last') and has_narrow_shortcut(cfg.model):
        print_log('No GPU: maps of so narrow a network stay in the ordinary format.', 'current')
        cfg.model.channels_last = False
    if cfg.launcher != 'none':
        join_processes(cfg.launcher)
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
        )
        if replace_sync_bn(cfg.get('model')) or cfg.get('sync_bn'):
            print_log('No GPU: batch norm statistics are per process, not synchronised.', 'current')
            cfg.sync_bn = None


def choose_precision(wrapper: dict, forced: Optional[str] = None, detects: bool = False) -> None:
    """Make bfloat16 or float32 of mixed precision, and say which and why.

    Args:
        wrapper (dict): Config of an ``AmpOptimWrapper``, changed in place. Its ``dtype`` ``'float32'``
            is kept; any other one becomes bfloat16 where the CPU is fast in it.
        forced (str, optional): The dtype that the command line asks for. Defaults to None.
        detects (bool): The model needs mmcv's operators. Defaults to False.

    Raises:
        ValueError: ``forced`` is a precision that PyTorch does not train in on a CPU.
    """
    fast = multiplies_bfloat16()
    if forced is not None:
        if forced not in DTYPES:
            raise ValueError(
                f'optim_wrapper.dtype={forced} needs a GPU: on a CPU write bfloat16 or float32'
            )
        dtype, why = forced, 'as --cfg-options optim_wrapper.dtype asks'
    elif wrapper.get('dtype') == 'float32':
        dtype, why = 'float32', 'as the config says'
    elif fast and detects and not operators_take_bfloat16():
        dtype, why = 'float32', 'as the operators compiled with mmcv take no bfloat16 on a CPU'
    elif fast:
        dtype, why = 'bfloat16', 'for which this CPU has instructions (AMX)'
    else:
        dtype = 'float32'
        why = (
            'as PyTorch finds no AMX in this CPU, and bfloat16 is no faster without; '
            '--cfg-options optim_wrapper.dtype=bfloat16 takes it all the same'
        )
    print_log(f'No GPU: training in {dtype}, {why}.', 'current')
    for key in ('loss_scale', 'dtype', 'use_fsdp'):
        wrapper.pop(key, None)
    wrapper['type'] = 'mcl_mm.CPUAmpOptimWrapper' if dtype == 'bfloat16' else 'OptimWrapper'


def operators_take_bfloat16() -> bool:
    """Whether detectors' operators do, on the CPU; those compiled with mmcv 2.3.6 do not."""
    try:
        roi_align(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16), torch.zeros(1, 5), (1, 1))
    except RuntimeError:
        return False
    return True


def precision(wrapper: OptimWrapper) -> str:
    """The dtype that a run's convolutions compute in, as text."""
    if isinstance(wrapper, CPUAmpOptimWrapper):
        return 'bfloat16'
    if isinstance(wrapper, AmpOptimWrapper):
        return str(wrapper.cast_dtype or torch.float16).removeprefix('torch.')
    return 'float32'


def multiplies_bfloat16() -> bool:
    """Whether the CPU multiplies matrices of bfloat16 (AMX), as PyTorch 2.11 or newer tells.

    Without AMX, bfloat16 was slower than float32, with AVX512-BF16 too (docs/performance.md).
    The answer does not depend on how busy the machine is, as a measurement would: a run that is resumed
    goes on in the same precision.
    """
    return bool(getattr(torch.cpu, 'get_capabilities', dict)().get('amx_bf16'))


def has_narrow_shortcut(config: dict) -> bool:
    """Whether a model has 1x1 convs with stride 2 and fewer than 16 channels.

    In their backward pass PyTorch 2.11 crashes on some CPUs if maps are channels-last.
    """
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(config)
    return any(
        isinstance(conv, nn.Conv2d)
        and conv.kernel_size == (1, 1)
        and conv.stride == (2, 2)
        and min(conv.in_channels, conv.out_channels) < 16
        for conv in model.modules()
    )


def replace_sync_bn(part: object) -> bool:
    """Make plain batch norm of what is synchronised in the config of a model; whether there was any."""
    if isinstance(part, (list, tuple)):
        return any([replace_sync_bn(value) for value in part])
    if not isinstance(part, dict):
        return False
    found = type_name(part) in ('SyncBN', 'MMSyncBN', 'SyncBatchNorm')
    if found:
        part['type'] = 'BN'
    return any([found, *map(replace_sync_bn, part.values())])
