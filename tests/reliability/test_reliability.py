"""The faults of run.py that no other test has, each once, as part of the usual tests."""

import random

import pytest
from run import FAULTS, Bench, tries


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    random.seed(1)
    return Bench(tmp_path_factory.mktemp('reliability'), by_epoch=False)


@pytest.mark.parametrize(
    'name', sorted(FAULTS.keys() - {'stop', 'not_finite', 'damaged_checkpoint'})
)
def test_survives(bench, name):
    times = tries(name, kills=2, others=1)
    assert len(list(FAULTS[name](bench, times))) == times
