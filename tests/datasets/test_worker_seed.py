import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mcl_mm.datasets import seed_worker


class Draws(Dataset):
    """Each item is a random number of the worker that serves it."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return np.random.randint(2**31)


def epochs_of(seed):
    torch.manual_seed(seed)
    loader = DataLoader(Draws(), batch_size=4, num_workers=2, worker_init_fn=seed_worker)
    return [torch.cat(list(loader)).tolist() for _ in range(2)]


def test_workers_and_epochs_draw_different_numbers():
    first, second = epochs_of(0)
    assert len({*first, *second}) == 16


def test_processes_draw_different_numbers_and_runs_repeat():
    assert epochs_of(0) == epochs_of(0)
    drawn = [{*first, *second} for first, second in map(epochs_of, (0, 1))]
    assert not drawn[0] & drawn[1]
