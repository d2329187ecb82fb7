"""Pre-training runs of seconds, from the shipped configs, to be interrupted and compared."""

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Optional

import torch

from mcl_mm.engine import start_summary
from processes import CONTEXT, TIMEOUT, run_command

ROOT = Path(__file__).parents[1]
WORKERS = ('train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True')
TIMES = ('time', 'data_time', 'memory', 'images_per_second')  # and other scalars never the same

# What the two shipped recipes need to be tiny. 9 images, 2 a batch: 4 iterations an epoch, 12 a run.
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['faults'])
view_pipeline_q = _base_.view_pipeline_q
view_pipeline_k = _base_.view_pipeline_k
view_pipeline_q[0].scale = view_pipeline_k[0].scale = 32
multi_view = _base_.train_dataloader.dataset.pipeline[1]
multi_view.transforms = [view_pipeline_q, view_pipeline_k]
model = dict(
    joint='all',  # one sheet of one cell is no batch for BN
    backbone=dict(type='HalfResNet', depth=18, stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8, hid_channels=16, embed_channels=8),
    head=dict(in_channels=8, hid_channels=16),
)
train_dataloader = dict(
    batch_size=2,
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
train_cfg = dict(max_iters=12)
param_scheduler = [dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=12, T_max=12)]
default_hooks.update(checkpoint=dict(interval=4, max_keep_ckpts=2))
"""


def write_config(folder: Path, images: Path, by_epoch: bool) -> Path:
    """Write a tiny version of the published recipe, or of the quickstart's."""
    base = ROOT / (
        'configs/mcl_r50_100e.py' if by_epoch else 'configs/quickstart/pretrain_published.py'
    )
    path = folder / ('by_epoch.py' if by_epoch else 'by_iter.py')
    rest = BY_EPOCH if by_epoch else BY_ITER
    path.write_text(CONFIG.format(base=str(base), images=str(images)) + rest)
    return path


def fault(at: int, what: str = 'raise', rank: int = 0, name: str = 'fault') -> list[str]:
    """Settings that add a :class:`faults.FaultHook` to a run."""
    settings = dict(type='FaultHook', at=at, what=what, rank=rank)
    return [f'default_hooks.{name}.{key}={value}' for key, value in settings.items()]


def start(
    config: Path, work_dir: Path, *options: str, resume: str = 'auto', env: Optional[dict] = None
):
    """Start tools/train.py as a process of its own; its output goes to ``work_dir.log``.

    Args:
        config (Path): The config.
        work_dir (Path): What an earlier start has left there is resumed.
        *options (str): Settings as of ``--cfg-options``.
        resume (str): A checkpoint. Defaults to the newest.
        env (dict, optional): What torchrun sets for one of several processes. Defaults to None.
    """
    arguments = [str(config), '--work-dir', str(work_dir), '--resume', resume]
    arguments += ['--launcher', 'pytorch'] if env else []
    arguments += ['--cfg-options', *options] if options else []
    process = CONTEXT.Process(target=train, args=(arguments, f'{work_dir}.log', env or {}))
    process.start()
    return process


def train(arguments: list[str], log: str, env: dict[str, str]) -> None:
    """Run ``mcl-mm train`` in a forked process, see :func:`processes.run_command`.

    The multiply-adds of its first iteration, which take as long to count as five iterations to compute,
    are not counted. That changes no value (tests/engine/test_operation_counter.py), which runs of
    :func:`launch` count and are compared with those that do not.
    """
    start_summary.operation_counter = NoCount
    run_command('train', arguments, log, env)


class NoCount(contextlib.nullcontext):
    """In place of the counter of :class:`~mcl_mm.engine.start_summary.StartSummaryHook`."""

    def get_total_flops(self) -> int:
        """Nothing to say."""
        return 0


def run(config: Path, work_dir: Path, *options: str, code: int = 0, resume: str = 'auto') -> str:
    """Start or resume a run and wait for its end.

    Args:
        config, work_dir, *options, resume: See :func:`start`.
        code (int): The exit code it should have. Defaults to 0.

    Returns:
        str: What it printed.

    Raises:
        AssertionError: It ends otherwise, or not at all.
    """
    return wait(start(config, work_dir, *options, resume=resume), work_dir, code)


def wait(process: multiprocessing.Process, work_dir: Path, code: int = 0, timeout=TIMEOUT) -> str:
    """The second half of :func:`run`."""
    process.join(timeout)
    output = Path(f'{work_dir}.log').read_text(errors='replace')
    last = ' '.join(output.splitlines()[-1:])
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f'still there after {timeout} s: {last}')
    assert process.exitcode == code, f'exit code {process.exitcode} instead of {code}: {last}'
    return output


def run_two(config: Path, work_dir: Path, port: str, *options: str, code: int = 0) -> None:
    """Start or resume a run of two processes, as torchrun starts them, and wait for its end."""
    ranks = [
        dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
        for rank in '01'
    ]
    for process in [start(config, work_dir, *options, env=env) for env in ranks]:
        wait(process, work_dir, code)


def launch(config: Path, work_dir: Path, *options: str, processes: int, port: str):
    """Start or resume a run of several processes by tools/dist_train.sh; returns the launcher."""
    paths = [str(ROOT), str(ROOT / 'tests'), os.environ.get('PYTHONPATH', '')]
    binaries = [os.path.dirname(sys.executable), os.environ['PATH']]
    env = dict(
        os.environ,
        PYTHONPATH=os.pathsep.join(filter(None, paths)),
        PATH=os.pathsep.join(binaries),
        CUDA_VISIBLE_DEVICES='',
        PYTHONWARNINGS='ignore',
        PORT=port,
    )
    arguments = [str(config), str(processes), '--work-dir', str(work_dir), '--resume']
    arguments += ['--cfg-options', *options] if options else []
    with open(f'{work_dir}.log', 'ab') as log:
        return subprocess.Popen(
            ['bash', str(ROOT / 'tools/dist_train.sh'), *arguments],
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def check_same_run(work_dir: Path, expected: Path, begin: int = 1) -> None:
    """Compare how two runs ended, and what they logged from iteration ``begin`` on, in every bit.

    Raises:
        AssertionError: They differ; says where.
    """
    state, expected_state = final_state(work_dir), final_state(expected)
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        where = difference(state[part], expected_state[part], part)
        assert where is None, f'{where} differs'
    one, other = (
        {step: scalars for step, scalars in curves(path).items() if step >= begin}
        for path in (work_dir, expected)
    )
    assert one == other, 'the logged curves differ'


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
            logged[scalars['step']] = {k: v for k, v in scalars.items() if k not in TIMES}
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
