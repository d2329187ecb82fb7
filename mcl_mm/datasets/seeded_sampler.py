"""The order of the samples, and random numbers that depend on nothing but the place in it."""

import itertools
import random
from collections.abc import Iterator, Sequence, Sized
from math import ceil
from typing import Any, Optional

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, get_dist_info
from torch.utils.data import Sampler

from mcl_mm.registry import DATA_SAMPLERS

from .settings import check_number


class SeededIndex(int):
    """The index of a sample, with the seed of the random numbers that make the sample.

    Args:
        index (int): The index.
        seed (tuple[int]): Arguments of :func:`seed_generators`.
    """

    def __new__(cls, index: int, seed: tuple[int, ...]) -> 'SeededIndex':
        """An int that carries a seed."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self) -> tuple:
        """What makes it anew in a worker."""
        return int(self), self.seed

    def seed_generators(self) -> None:
        """Make the random numbers that follow those of this sample."""
        seed_generators(*self.seed)


def inner_sets(dataset: Any) -> list:
    """The data sets inside of wrappers such as MMEngine's ``ConcatDataset``; else the one itself."""
    if hasattr(dataset, 'datasets'):
        return [part for inner in dataset.datasets for part in inner_sets(inner)]
    return inner_sets(dataset.dataset) if hasattr(dataset, 'dataset') else [dataset]


class SeededFetch:
    """What a data loader gets samples by: each is made with the random numbers of its own index.

    PyTorch's loader calls a data set's ``__getitems__`` with the indices of a batch, in the worker. A
    wrapper of data sets (MMEngine's ``ConcatDataset``, ``RepeatDataset``, ``ClassBalancedDataset``,
    nested or not) computes with its index, and what comes out has no seed; so the seed is used first.

    Args:
        dataset (Any): Any data set with indices.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, indices: Sequence[int]) -> list:
        """Samples of a batch, in the order of its indices."""
        samples = []
        for index in indices:
            if isinstance(index, SeededIndex):
                index.seed_generators()
            samples.append(self.dataset[int(index)])
        return samples


@DATA_SAMPLERS.register_module()
class SeededSampler(Sampler):
    """Shuffles every epoch anew and can begin anywhere, for one process or many.

    MMEngine's ``DefaultSampler`` and ``InfiniteSampler`` in one, with two things added: it can leave
    out samples that a resumed run has seen, without loading them, and its indices carry a seed each,
    made from the run's seed, the epoch and the place in it. So the random numbers of a sample do not
    depend on which worker serves it, nor on what that worker served before.

    Args:
        dataset (Sized): The data set, whatever it is wrapped in. It gets a :class:`SeededFetch`, which
            makes use of the seeds.
        seed (int, optional): The same on all processes. Defaults to None, that of PyTorch's
            generator on the first process, which in a Runner is the run's.
        shuffle (bool): Defaults to True.
        infinite (bool): Go on with the next epoch by itself, as iteration-based training needs.
            Defaults to False.

    Raises:
        ValueError: ``seed`` is no whole number from 0.
    """

    def __init__(
        self,
        dataset: Sized,
        seed: Optional[int] = None,
        shuffle: bool = True,
        infinite: bool = False,
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        if hasattr(dataset, '__dict__'):  # not a list or a range, whose items draw no numbers
            dataset.__getitems__ = SeededFetch(dataset)
        if seed is None:
            shared = [torch.initial_seed()]
            broadcast_object_list(shared)
            seed = shared[0]
        check_number('seed', seed, low=0, whole=True)
        self.seed = seed
        self.shuffle = shuffle
        self.infinite = infinite
        self.epoch = 0
        self.skipped = 0

    def __len__(self) -> int:
        """Samples of this process in an epoch: if need be, some images are repeated to fill it."""
        return ceil(self.size / self.world_size)

    def __iter__(self) -> Iterator[SeededIndex]:
        epochs, begin = divmod(self.skipped, len(self))
        self.skipped = 0
        for epoch in itertools.count(self.epoch + epochs):
            yield from itertools.islice(self._samples(epoch), begin, None)
            if not self.infinite:
                return
            begin = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iterator begins in."""
        self.epoch = epoch

    def skip(self, num_samples: int) -> None:
        """Let the next iterator leave out this process's first ``num_samples`` samples."""
        self.skipped = num_samples

    def _samples(self, epoch: int) -> Iterator[SeededIndex]:
        order = np.arange(self.size)
        if self.shuffle:
            np.random.default_rng((self.seed, epoch)).shuffle(order)
        for draw in range(self.rank, len(self) * self.world_size, self.world_size):
            yield SeededIndex(order[draw % self.size], (self.seed, epoch, draw))


def seed_generators(*key: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators, the last on all devices.

    Args:
        *key (int): Non-negative numbers. Different ones, however close, give unrelated streams.
    """
    words = np.random.SeedSequence(key).generate_state(10)
    random.seed(words[:4].tobytes())
    np.random.seed(words[4:8])
    torch.manual_seed(int(words[8:].view(np.uint64)[0]))
