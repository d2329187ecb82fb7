"""Pre-train, or fine-tune a detector: runs an MMEngine config.

    python tools/train.py configs/mcl_r50_100e.py
    python tools/train.py CONFIG --cfg-options train_dataloader.dataset.data_root=my/images
    python tools/train.py CONFIG --resume

SIGTERM, SIGUSR1 or Ctrl-C: a pre-training run saves a checkpoint after the current update and exits with
code 75; started again with --resume it ends as if it had not been stopped. Exit code 1: an error.

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import atexit
import glob
import os
import os.path as osp
import subprocess
import sys
import time

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

import mcl_mm  # noqa: F401  (checks the environment and registers the components)
from mcl_mm.config import type_name
from mcl_mm.engine import TooManyBadImagesError, check_start
from mcl_mm.registry import MODELS

SLURM_VARIABLES = dict(RANK='PROCID', LOCAL_RANK='LOCALID', WORLD_SIZE='NTASKS')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or without a path from the newest in the work dir',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision (GPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the batch size, relative to the config's base_batch_size",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings to override, as key=value; lists as key="[a,b]" without spaces',
    )
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and apply the command line to it."""
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    name = osp.splitext(osp.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise ValueError(
                f'--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in {args.config}'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume == 'auto':
        # A job that is requeued calls its first start the same; that may be from load_from.
        cfg.resume = bool(glob.glob(osp.join(glob.escape(cfg.work_dir), '*.pth')))
        if cfg.resume:
            cfg.load_from = None
        else:
            print_log(
                f'Nothing to resume in {cfg.work_dir}: starting from the beginning.', 'current'
            )
    elif args.resume:
        cfg.resume, cfg.load_from = True, args.resume
        if not osp.isfile(cfg.load_from):
            raise FileNotFoundError(f'no checkpoint to resume from at {cfg.load_from}')
    if not torch.cuda.is_available():
        adapt_to_cpu(cfg)
    return cfg


def adapt_to_cpu(cfg: Config) -> None:
    """Replace what needs a GPU, and say so: mixed precision, synchronised BN, NCCL."""
    if cfg.get('optim_wrapper', {}).get('type') == 'AmpOptimWrapper':
        print_log('No GPU: training in float32 instead of mixed precision.', 'current')
        cfg.optim_wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype'):
            cfg.optim_wrapper.pop(key, None)
    if cfg.get('model', {}).get('channels_last') and has_narrow_shortcut(cfg.model):
        print_log('No GPU: maps of so narrow a network stay in the ordinary format.', 'current')
        cfg.model.channels_last = False
    if cfg.launcher == 'mpi':
        raise ValueError('--launcher mpi needs GPUs; without, use tools/dist_train.sh')
    if cfg.launcher in ('pytorch', 'slurm'):
        if cfg.launcher == 'slurm':
            env = os.environ
            if 'SLURM_PROCID' not in env:
                raise ValueError(
                    '--launcher slurm is for tools/slurm_train.sh: srun sets no rank here'
                )
            env.update({k: env[f'SLURM_{v}'] for k, v in SLURM_VARIABLES.items()})
            if 'MASTER_ADDR' not in env:
                command = ['scontrol', 'show', 'hostnames', env['SLURM_NODELIST']]
                env['MASTER_ADDR'] = subprocess.check_output(command, text=True).split()[0]
            env.setdefault('MASTER_PORT', '29500')
        if not torch.distributed.is_initialized():  # MMEngine would ask for a GPU
            torch.distributed.init_process_group('gloo')
            # Gloo's threads need the GIL to let go of what they exchanged last. If the interpreter ends
            # before, they abort the process (PyTorch 2.11, github.com/pytorch/pytorch/pull/179291).
            atexit.register(time.sleep, 0.5)
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
        )
        if replace_sync_bn(cfg.get('model')) or cfg.get('sync_bn'):
            print_log('No GPU: batch norm statistics are per process, not synchronised.', 'current')
            cfg.sync_bn = None


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


def main() -> None:
    try:
        runner = Runner.from_cfg(load_config(parse_args()))
        check_start(runner)
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
    try:
        runner.train()
    except (FloatingPointError, TooManyBadImagesError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
    except OSError as error:  # the disk is full, the images have vanished
        reason = str(error).splitlines()[-1]  # out of a data worker it comes with a traceback
        sys.exit(f'{reason}. Go on from the last checkpoint with --resume')
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error):
            raise
        sys.exit(
            f'RuntimeError: {error} If the machine ran out of memory, lower '
            'train_dataloader.num_workers. Go on from the last checkpoint with --resume.'
        )


if __name__ == '__main__':
    main()
