"""A few of the faults of run.py, each once, as part of the usual tests."""

import random

import pytest
from run import FAULTS, Bench


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    random.seed(1)
    return Bench(tmp_path_factory.mktemp('reliability'), by_epoch=True)


@pytest.mark.parametrize('name', ['kill', 'disk_full', 'lost_worker'])
def test_survives(bench, name):
    assert len(list(FAULTS[name](bench, 1))) == 1
