"""The launchers start real processes, which train together, and end together when one of them fails."""

import json
import os
import subprocess
import sys
import time

import pytest

from conftest import ROOT, draw_images

# Trains on 12 images and one bad file: 7 an epoch for each of two processes, so the second batch is uneven.
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['fault'])
custom_hooks = [dict(type='TargetUpdateHook'), dict(type='mmengine.Fault')]
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8, hid_channels=16, embed_channels=8),
    head=dict(in_channels=8, hid_channels=16),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    drop_last=False,
    sampler=dict(infinite=False),
    dataset=dict(data_root={images!r}),
)
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(by_epoch=True, interval=1))
log_level = 'ERROR'
"""
# Before the third iteration rank 1 does what FAULT says, and notes the time.
FAULT = """
import os, signal, time
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Fault(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        fault = os.environ.get('FAULT')
        if fault and runner.rank == 1 and runner.iter == 2:
            with open(os.path.join(runner.work_dir, 'failed_at'), 'w') as file:
                file.write(str(time.time()))
            if fault == 'raise':
                raise RuntimeError('rank 1 has found a fault of its own')
            os.kill(os.getpid(), signal.SIGKILL)
"""
# Starts what srun would start on one machine, with what Slurm would tell the processes.
SRUN = """#!/usr/bin/env bash
for argument in "$@"; do
    shift
    case $argument in
    --ntasks=*) n=${argument#*=} ;;
    python) break ;;
    esac
done
pids=()
for ((i = 0; i < n; i++)); do
    SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_NTASKS=$n SLURM_NODELIST=node[1-2] python "$@" &
    pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""
SCONTROL = """#!/bin/sh
[ "$*" = 'show hostnames node[1-2]' ] && printf '127.0.0.1\\nnode2\\n'
"""
# Exits four times while Gloo's threads still have tensors to let go of: without a wait, most of these abort.
# That PyTorch alone is imported, and that Python switches threads seldom, makes an abort likelier.
EXITS = """
import os, runpy, sys
import torch
join_processes = runpy.run_path('mcl_mm/engine/launchers.py')['join_processes']
for _ in range(4):
    child = os.fork()
    if not child:
        sys.setswitchinterval(10)
        join_processes('pytorch')
        for _ in range(200):
            torch.distributed.all_gather([torch.zeros(1)], torch.zeros(1), async_op=True)
        sys.exit()
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
"""


@pytest.fixture
def start(tmp_path, free_port):
    """Start a launcher as its own process, on the CPU; what still runs at the end is killed."""
    images = draw_images(tmp_path / 'images', 12)
    (images / 'bad.jpg').write_text('text')
    base = str(ROOT / 'configs/quickstart/pretrain.py')
    (tmp_path / 'config.py').write_text(CONFIG.format(base=base, images=str(images)))
    (tmp_path / 'fault.py').write_text(FAULT)
    for name, script in (('srun', SRUN), ('scontrol', SCONTROL)):
        (tmp_path / 'bin').mkdir(exist_ok=True)
        (tmp_path / 'bin' / name).write_text(script)
        (tmp_path / 'bin' / name).chmod(0o755)
    processes = []

    def popen(script, *arguments, **environment):
        env = dict(
            os.environ,
            CUDA_VISIBLE_DEVICES='',
            OMP_NUM_THREADS='1',
            PATH=f'{tmp_path}/bin:{os.path.dirname(sys.executable)}:{os.environ["PATH"]}',
            PORT=str(free_port),
            PYTHONPATH=f'{tmp_path}:{ROOT}',
            PYTHONWARNINGS='ignore',
            **environment,
        )
        processes.append(
            subprocess.Popen(
                ['bash', f'tools/{script}', *map(str, arguments)],
                cwd=ROOT,
                env=env,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
        return processes[-1]

    yield popen
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait()


def output_of(process):
    return process.communicate(timeout=240)[0]


def check_run(process, folder, images):
    """It ended well, and one process alone has written."""
    printed = output_of(process)
    assert process.returncode == 0, printed[-3000:]
    assert (folder / 'epoch_2.pth').exists()
    assert (folder / 'bad_images.txt').read_text() == f'{images}/bad.jpg\tnot an image\n'
    assert len(list(folder.glob('*/*.log'))) == 1
    (scalars,) = folder.glob('*/vis_data/scalars.json')
    steps = [json.loads(line)['step'] for line in scalars.read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_two_processes_by_dist_train(start, tmp_path):
    process = start('dist_train.sh', tmp_path / 'config.py', 2, '--work-dir', tmp_path / 'work')
    check_run(process, tmp_path / 'work', tmp_path / 'images')


def test_two_processes_by_slurm_train(start, tmp_path):
    process = start('slurm_train.sh', 'partition', 'job', tmp_path / 'config.py', tmp_path / 'work',
                    GPUS='2')  # fmt: skip
    check_run(process, tmp_path / 'work', tmp_path / 'images')


def test_processes_on_a_cpu_end_without_an_abort(free_port):
    rank = dict(RANK='0', WORLD_SIZE='1', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(free_port))
    process = subprocess.run(
        [sys.executable, '-c', EXITS], cwd=ROOT, env=dict(os.environ, CUDA_VISIBLE_DEVICES='', **rank),
        text=True, capture_output=True, timeout=240,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]


def test_one_process_that_raises_ends_all_with_its_message(start, tmp_path):
    process = start('dist_train.sh', tmp_path / 'config.py', 2, '--work-dir', tmp_path / 'work',
                    FAULT='raise')  # fmt: skip
    printed = output_of(process)
    seconds = time.time() - float((tmp_path / 'work/failed_at').read_text())
    assert process.returncode == 1
    assert 'RuntimeError: rank 1 has found a fault of its own' in printed
    assert seconds < 60


def test_two_nodes_end_when_a_process_of_one_is_killed(start, tmp_path):
    """They meet, train for an epoch, and when a process dies the other machine does not wait."""
    nodes = [
        start('dist_train.sh', tmp_path / 'config.py', 1, '--work-dir', tmp_path / 'work',
              NNODES='2', NODE_RANK=str(rank), FAULT='kill')
        for rank in range(2)
    ]  # fmt: skip
    printed = [output_of(node) for node in nodes]
    seconds = time.time() - float((tmp_path / 'work/failed_at').read_text())
    assert all(node.returncode == 1 for node in nodes)
    assert 'Signal 9 (SIGKILL)' in printed[1]
    assert (tmp_path / 'work/epoch_1.pth').exists()
    assert seconds < 60


def test_slurm_train_hands_everything_to_srun(start, tmp_path, free_port):
    (tmp_path / 'bin/srun').write_text('#!/bin/sh\necho "$MASTER_PORT" "$@"\n')
    process = start('slurm_train.sh', 'gpu', 'job', 'config.py', 'out', '--resume', 'auto',
                    GPUS='4', SRUN_ARGS='--exclude=a --mem=0')  # fmt: skip
    port, command = output_of(process).split(maxsplit=1)
    assert port == str(free_port)
    assert '-p gpu --job-name=job --gres=gpu:4 --ntasks=4 --ntasks-per-node=4' in command
    assert '--exclude=a --mem=0 python -u tools/train.py config.py' in command
    assert command.strip().endswith('--work-dir=out --launcher=slurm --resume auto')


@pytest.mark.parametrize('script', ['dist_train.sh', 'slurm_train.sh'])
def test_launchers_say_how_to_call_them(start, script):
    process = start(script)
    assert f'bash tools/{script}' in output_of(process)
    assert process.returncode == 2
