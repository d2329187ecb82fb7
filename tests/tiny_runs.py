"""Pre-training runs of seconds, from the shipped configs, to be interrupted and compared."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

import mmengine.config.config
import torch
from mmengine.hooks import Hook

from mcl_mm.registry import HOOKS

ROOT = Path(__file__).parents[1]
REAL_TIME = time.time
# Formatting the config for every checkpoint takes longer than the runs.
mmengine.config.config.FormatCode = lambda text, **_: (text, True)

# What the two shipped recipes need to be tiny. 26 images, 4 a batch: 6 iterations an epoch.
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['tiny_runs'])
view_pipeline_q = _base_.view_pipeline_q
view_pipeline_k = _base_.view_pipeline_k
view_pipeline_q[0].scale = view_pipeline_k[0].scale = 32
multi_view = _base_.train_dataloader.dataset.pipeline[1]
multi_view.transforms = [view_pipeline_q, view_pipeline_k]
model = dict(
    routed=False,  # one sheet of one cell is no batch for BN
    backbone=dict(depth=18, stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8, hid_channels=16, embed_channels=8),
    head=dict(in_channels=8, hid_channels=16),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        data_root={images!r},
        pipeline=[
            dict(type='LoadAnyImage'),
            multi_view,
            dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
        ],
    ),
)
env_cfg = dict(cudnn_benchmark=False)
default_hooks = dict(logger=dict(interval=1))
log_level = 'WARNING'
"""
BY_EPOCH = """
train_cfg = dict(max_epochs=3)
default_hooks.update(checkpoint=dict(interval=1, max_keep_ckpts=2))
optim_wrapper = dict(optimizer=dict(lr=8.0))
"""
BY_ITER = """
train_cfg = dict(max_iters={iters})
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end={iters}, T_max={iters})]
default_hooks.update(checkpoint=dict(interval=4, max_keep_ckpts=2))
"""


def write_config(folder: Path, images: Path, by_epoch: bool, iters: int = 14) -> Path:
    """Write a tiny version of the published recipe, or of the quickstart's."""
    base = ROOT / ('configs/mcl_r50_100e.py' if by_epoch else 'configs/quickstart/pretrain.py')
    path = folder / ('by_epoch.py' if by_epoch else 'by_iter.py')
    rest = BY_EPOCH if by_epoch else BY_ITER.format(iters=iters)
    path.write_text(CONFIG.format(base=str(base), images=str(images)) + rest)
    return path


@HOOKS.register_module()
class FaultHook(Hook):
    """Something happens to the process in iteration ``at``, counted from 0, of process ``rank``.

    Args:
        at (int): The iteration.
        what (str): ``'raise'`` an error in place of the step, send a signal, by its name, to the
            process, make a weight ``'nan'``, or, from then on, turn the ``'clock'`` a day back and forth.
        rank (int): Defaults to 0.
    """

    def __init__(self, at: int, what: str = 'raise', rank: int = 0) -> None:
        self.at, self.what, self.rank = at, what, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Let it happen."""
        if self.what == 'clock' and runner.iter >= self.at:
            time.time = lambda: REAL_TIME() + random.choice((-86400, 86400))
            return
        if (runner.iter, runner.rank) != (self.at, self.rank):
            return
        if self.what == 'raise':
            raise Interrupted
        if self.what == 'nan':
            with torch.no_grad():
                next(runner.model.head.predictors[2].parameters())[0] = float('nan')
        else:
            os.kill(os.getpid(), getattr(signal, self.what))


class Interrupted(BaseException):
    """As sudden as it can be without ending the process."""


def start(config: Path, work_dir: Path, *arguments: str, processes: int = 1, port: int = 29500):
    """Start tools/train.py, or dist_train.sh, as a process; its output goes to ``work_dir.log``."""
    command = [sys.executable, str(ROOT / 'tools/train.py'), str(config)]
    if processes > 1:
        command = ['bash', str(ROOT / 'tools/dist_train.sh'), str(config), str(processes)]
    path = os.pathsep.join([str(ROOT), str(ROOT / 'tests')])
    env = dict(
        os.environ,
        PYTHONPATH=path,
        OMP_NUM_THREADS='1',
        PYTHONWARNINGS='ignore',
        CUDA_VISIBLE_DEVICES='',
        PORT=str(port),
        PATH=f'{os.path.dirname(sys.executable)}{os.pathsep}{os.environ["PATH"]}',
    )
    with open(f'{work_dir}.log', 'ab') as log:
        return subprocess.Popen(
            [*command, '--work-dir', str(work_dir), *map(str, arguments)],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def final_state(work_dir: Path) -> dict:
    """The last checkpoint of a run."""
    path = (work_dir / 'last_checkpoint').read_text()
    return torch.load(path, map_location='cpu', weights_only=False)


def curves(work_dir: Path) -> dict[int, dict[str, float]]:
    """What was logged per iteration, without times; a resumed run's lines count over older ones."""
    logged = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            scalars = json.loads(line)
            logged[scalars['step']] = {
                k: v for k, v in scalars.items() if k not in ('time', 'data_time', 'memory')
            }
    return logged


def difference(one, other, path: str = '') -> Optional[str]:
    """Where two nested states differ in any bit; None if nowhere."""
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f'{path}: {one.keys() ^ other.keys()}'
        pairs = ((f'{path}.{k}', one[k], other[k]) for k in one)
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return f'{path}: lengths'
        pairs = ((f'{path}[{i}]', a, b) for i, (a, b) in enumerate(zip(one, other)))
    elif torch.is_tensor(one):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return None if same else path
    else:
        return None if one == other else path
    return next(filter(None, (difference(a, b, p) for p, a, b in pairs)), None)
