"""Workers draw different numbers in every epoch and process, through MMEngine's own data loader."""

import os
import select
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mcl_mm.datasets.worker_seed import seed_worker
from mcl_mm.registry import DATASETS


@DATASETS.register_module()
class Draws(Dataset):
    """Each item is a random number of the worker that serves it."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return np.random.randint(2**31)


def epochs_of(seed, **config):
    """What the workers of a process with this seed draw in two epochs."""
    torch.manual_seed(seed)
    loader = Runner.build_dataloader(
        dict(
            dataset=dict(type='mcl_mm.Draws'),
            batch_size=4,
            num_workers=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            **config,
        ),
        seed=seed,
    )
    return [torch.cat(list(loader)).tolist() for _ in range(2)]


RECIPE = dict(worker_init_fn=dict(type='mcl_mm.seed_worker'))


def test_workers_and_epochs_draw_different_numbers():
    first, second = epochs_of(0, **RECIPE)
    assert len({*first, *second}) == 16


def test_mmengines_default_would_repeat_every_epoch():
    first, second = epochs_of(0)
    assert first == second


def test_processes_draw_different_numbers_and_runs_repeat():
    assert epochs_of(0, **RECIPE) == epochs_of(0, **RECIPE)
    drawn = [{*first, *second} for first, second in (epochs_of(s, **RECIPE) for s in (0, 1))]
    assert not drawn[0] & drawn[1]


@pytest.fixture
def batches():
    """What gives numbers from 0 on, served by two workers that are there already."""
    loader = torch.utils.data.DataLoader(
        range(40), num_workers=2, worker_init_fn=seed_worker, prefetch_factor=1
    )
    batches = iter(loader)
    assert next(batches) == 0
    assert next(batches) == 1  # both have begun
    return batches


def test_a_worker_goes_on_when_all_processes_are_told_to_end(batches):
    """As a scheduler tells them. PyTorch's would end, and the run with an error before it has saved."""
    numbers = [str(worker.pid) for worker in batches._workers]
    subprocess.run(['bash', '-c', f'kill -TERM {" ".join(numbers)}'], check=True)
    time.sleep(0.2)
    assert torch.cat(list(batches)).tolist() == list(range(2, 40))


def test_a_worker_ends_when_its_run_tells_it(batches):
    worker = batches._workers[0]
    worker.terminate()
    worker.join(5)
    assert worker.exitcode == 0  # PyTorch's own


def test_a_worker_whose_run_is_gone_ends_by_anyone():
    ended, end = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            parent = os.getppid()
            seed_worker(0)
            while os.getppid() == parent:
                time.sleep(0.01)
            os.write(end, str(os.getpid()).encode())
            time.sleep(60)
        time.sleep(0.5)
        os._exit(0)
    os.close(end)
    os.waitpid(child, 0)
    os.kill(int(os.read(ended, 9)), signal.SIGTERM)
    assert select.select([ended], [], [], 30)[0]
    assert os.read(ended, 1) == b''  # nobody can write any more


def test_recipe_uses_it():
    from mmengine.config import Config

    from conftest import ROOT

    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    assert cfg.train_dataloader.worker_init_fn == RECIPE['worker_init_fn']
    assert cfg.randomness.diff_rank_seed  # other numbers on every process
