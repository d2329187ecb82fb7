"""Workers draw different numbers in every epoch and process, through MMEngine's own data loader."""

import numpy as np
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

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


def test_recipe_uses_it():
    from mmengine.config import Config

    from conftest import ROOT

    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    assert cfg.train_dataloader.worker_init_fn == RECIPE['worker_init_fn']
    assert cfg.randomness.diff_rank_seed  # other numbers on every process
