"""The target moves once per optimiser update, with the momentum of the published schedule."""

import math
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from torch import nn

from mcl_mm.engine import TargetUpdateHook, cosine_momentum


def test_cosine_momentum_has_the_published_values():
    i = np.arange(31200)
    series = [cosine_momentum(0.99, update, 31200) for update in i]
    expected = 1 - 0.01 * (np.cos(np.pi * i / 31200) + 1) / 2
    np.testing.assert_allclose(series, expected, rtol=1e-14)
    assert np.all(np.diff(series) > 0)
    assert series[0] == 0.99
    assert cosine_momentum(0.99, 15600, 31200) == pytest.approx(0.995)
    last = 1 - 0.01 * (math.cos(math.pi * 31199 / 31200) + 1) / 2
    assert cosine_momentum(0.99, 31199, 31200) == pytest.approx(last, rel=1e-15)
    assert cosine_momentum(0.99, 31200, 31200) == 1


@pytest.mark.parametrize(('accumulated', 'iterations'), [(1, 4), (4, 16), (4, 10)])
def test_counts_optimiser_updates(accumulated, iterations):
    """With accumulation the momentum series is that of a run with as many updates."""
    parameter = nn.Parameter(torch.zeros(1))
    wrapper = OptimWrapper(torch.optim.SGD([parameter], lr=1.0), accumulative_counts=accumulated)
    wrapper.initialize_count_status(nn.Module(), 0, iterations)
    runner = SimpleNamespace(
        optim_wrapper=wrapper,
        max_iters=iterations,
        model=Mock(spec=['update_target']),
        message_hub=MessageHub.get_instance(f'test_{accumulated}_{iterations}'),
    )
    hook = TargetUpdateHook(base_momentum=0.9)
    moved_at = []
    for runner.iter in range(iterations):
        before = parameter.item()
        wrapper.update_params(parameter.sum())
        calls = runner.model.update_target.call_count
        hook.after_train_iter(runner, runner.iter)
        moved = runner.model.update_target.call_count - calls
        assert moved == (parameter.item() != before)
        moved_at += [runner.iter] * moved
    updates = math.ceil(iterations / accumulated)
    assert len(moved_at) == updates
    series = [call.args[0] for call in runner.model.update_target.call_args_list]
    assert series == [cosine_momentum(0.9, i, updates) for i in range(updates)]
    assert runner.message_hub.get_scalar('train/momentum').current() == series[-1]


def test_impossible_momentum():
    with pytest.raises(ValueError, match='base_momentum must lie in'):
        TargetUpdateHook(base_momentum=1.5)
