"""The order of the samples is a function of seed, epoch and place, and so are their numbers."""

import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner
from torch.utils.data import ConcatDataset as TorchConcatDataset
from torch.utils.data import Dataset, Subset

from mcl_mm.datasets import SeededIndex, SeededSampler, inner_sets, seed_generators
from mcl_mm.registry import DATASETS


@DATASETS.register_module()
class SeededDraws(Dataset):
    """Each item: its index and a number of every generator."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        numbers = random.random(), np.random.random(), torch.rand(()).item()
        return torch.tensor([int(index), *numbers], dtype=torch.float64)


def epochs_of(workers, skip=0, seed=3, count=2):
    """What ``count`` epochs of MMEngine's data loader bring, after leaving out ``skip`` samples."""
    loader = Runner.build_dataloader(
        dict(
            dataset=dict(type='mcl_mm.SeededDraws'),
            batch_size=2,
            num_workers=workers,
            sampler=dict(type='mcl_mm.SeededSampler'),
            collate_fn=dict(type='default_collate'),
        ),
        seed=seed,
    )
    drawn = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        if epoch == 0:
            loader.sampler.skip(skip)
        drawn += list(loader)
    return torch.cat(drawn)


def test_workers_and_skipping_change_nothing():
    expected = epochs_of(0)
    assert expected[:10, 0].sort().values.tolist() == list(range(10))
    assert expected[10:, 0].sort().values.tolist() == list(range(10))
    assert expected[:10, 0].tolist() != expected[10:, 0].tolist()
    for column in range(1, 4):
        assert len(set(expected[:, column].tolist())) == 20
    assert torch.equal(epochs_of(2), expected)
    assert torch.equal(epochs_of(3, skip=4), expected[4:])
    assert not torch.isin(epochs_of(0, seed=4)[:, 1:], expected[:, 1:]).any()


@DATASETS.register_module()
class WrappedDraws(BaseDataset):
    """As :class:`SeededDraws`, to be wrapped: its own index, its label, and drawn numbers."""

    def __init__(self, length, **kwargs):
        self.length = length
        super().__init__(**kwargs)

    def load_data_list(self):
        return [dict(label=index % 3 == 0) for index in range(self.length)]

    def get_cat_ids(self, idx):
        return [int(self.get_data_info(idx)['label'])]

    def __getitem__(self, index):
        numbers = random.random(), np.random.random(), torch.rand(()).item()
        return torch.tensor([self.length, index, *numbers], dtype=torch.float64)


DRAWS = [dict(type='mcl_mm.WrappedDraws', length=length) for length in (5, 7)]
BALANCED = dict(type='mmengine.ClassBalancedDataset', dataset=DRAWS[1], oversample_thr=0.9)
WRAPPERS = dict(
    concat=dict(type='mmengine.ConcatDataset', datasets=DRAWS),
    repeat=dict(type='mmengine.RepeatDataset', dataset=DRAWS[1], times=3),
    balanced=BALANCED,
    nested=None,
)


def build_wrapped(name):
    """A wrapped data set; what MMEngine's wrappers refuse to nest is nested by PyTorch's."""
    if name == 'nested':
        draws = [DATASETS.build(settings) for settings in DRAWS]
        return TorchConcatDataset([Subset(draws[0], [4, 2, 0]), DATASETS.build(BALANCED), draws[1]])
    return DATASETS.build(WRAPPERS[name])


@pytest.mark.parametrize('name', WRAPPERS)
@pytest.mark.parametrize('workers', [0, 2])
def test_samples_have_their_seeds_through_any_wrapper(name, workers):
    """Value by value: what a sample draws is drawn again by hand, from its seed alone."""
    data = build_wrapped(name)

    def samples(skip):
        loader = Runner.build_dataloader(
            dict(dataset=build_wrapped(name), batch_size=3, num_workers=workers,
                 sampler=dict(type='mcl_mm.SeededSampler', infinite=True),
                 collate_fn=dict(type='default_collate')),
            seed=3,
        )  # fmt: skip
        loader.sampler.skip(skip)
        return torch.cat(list(islice(loader, 8)))

    whole = samples(0)
    assert torch.equal(samples(9)[:15], whole[9:])  # a run that goes on
    for index, sample in zip(SeededSampler(data, seed=3, infinite=True), whole):
        seed_generators(*index.seed)
        assert torch.equal(data[int(index)], sample)
    assert len(set(whole[:, 2].tolist())) == 24


def test_the_sets_inside_of_wrappers():
    lengths = [part.length for part in inner_sets(build_wrapped('nested'))]
    assert lengths == [5, 7, 7]
    plain = SeededDraws()
    assert inner_sets(plain) == [plain]


@pytest.mark.parametrize(('size', 'processes'), [(10, 1), (10, 3), (2, 5)])
def test_processes_share_an_epoch(size, processes):
    """Together they see every image, each as many; no two samples have the same seed."""
    samplers = []
    for rank in range(processes):
        sampler = SeededSampler(range(size), seed=1)
        sampler.rank, sampler.world_size = rank, processes
        samplers.append(sampler)
    drawn = [list(sampler) for sampler in samplers]
    assert {len(part) for part in drawn} == {len(sampler) for sampler in samplers}
    together = [index for part in drawn for index in part]
    assert len(together) - size < processes
    assert set(together) == set(range(size))
    assert len({index.seed for index in together}) == len(together)


def test_infinite_goes_on_with_the_next_epoch_and_skips_any_number():
    finite, infinite = (SeededSampler(range(7), seed=1, infinite=i) for i in (False, True))
    expected = []
    for epoch in range(4):
        finite.set_epoch(epoch)
        expected += [(int(index), index.seed) for index in finite]
    for skip in (0, 5, 7, 20):
        infinite.skip(skip)
        drawn = islice(infinite, 28 - skip)
        assert [(int(index), index.seed) for index in drawn] == expected[skip:]


def test_index_travels_to_a_worker():
    index = pickle.loads(pickle.dumps(SeededIndex(5, (1, 2, 3))))
    assert (index, index.seed, [0] * 5 + [9]) == (5, (1, 2, 3), [0] * 5 + [9])
    assert [0, 1, 2, 3, 4, 'here'][index] == 'here'


def test_neighbouring_seeds_are_unrelated():
    def numbers(*key):
        seed_generators(*key)
        return random.random(), np.random.random(), torch.rand(()).item()

    keys = [(0, 0, i) for i in range(300)] + [(0, i, 0) for i in range(1, 300)]
    drawn = np.array([numbers(*key) for key in keys])
    assert len(np.unique(drawn)) == drawn.size
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.06  # 5 standard errors
    correlation = np.corrcoef(np.vstack([drawn[:-1].T, drawn[1:].T]))
    assert np.abs(correlation - np.eye(6)).max() < 0.2
    assert numbers(7) == numbers(7)
