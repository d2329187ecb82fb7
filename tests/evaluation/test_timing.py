"""A step's parts are timed without being changed, and its memory is its own."""

import time

import pytest
import torch
from mmengine.optim import OptimWrapper

from mcl_mm.evaluation import timing


@pytest.fixture
def small_step(tiny_config, build, views):
    """Makes a model, its optimiser and a batch, always the same."""

    def make():
        model = build(tiny_config).train()
        return (
            model,
            OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)),
            dict(inputs=views(8)),
        )

    return make


def test_watching_a_step_leaves_it_as_it_is(small_step):
    """Losses, weights and target are those of an unwatched step, and every part is seen."""
    results = []
    for watched in (False, True):
        model, wrapper, batch = small_step()
        stopwatch = timing.Stopwatch()
        if watched:
            timing.watch_parts(model, wrapper, stopwatch)
        torch.manual_seed(1)
        results.append((timing.train_step(model, wrapper, batch), model.state_dict()))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert {part: len(spans) for part, spans in stopwatch.spans.items()} == {
        'montage': 1, 'online': 2, 'target': 2, 'loss': 2, 'backward': 1, 'optimiser': 2, 'EMA': 1,
    }  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU PyTorch counts')
def test_peak_memory_is_what_a_step_has_in_use():
    """Not what earlier ones left: many blocks of a size that glibc keeps."""
    before = timing.peak_memory(lambda: None)
    left = [torch.ones(2**20 * 4 // 4) for _ in range(64)]  # 4 MiB each
    del left
    nothing, quarter = (
        timing.peak_memory(step) / 2**30 for step in (lambda: None, lambda: torch.ones(64 * 2**20))
    )
    assert abs(nothing - before / 2**30) < 0.05
    assert quarter - nothing == pytest.approx(0.25, abs=0.03)


def test_the_target_moves_only_with_an_update(small_step):
    """With accumulation, two steps in three end without."""
    model, _, batch = small_step()
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), accumulative_counts=3)
    wrapper.initialize_count_status(model, 0, 3)
    stopwatch = timing.Stopwatch()
    timing.watch_parts(model, wrapper, stopwatch)
    for _ in range(3):
        timing.train_step(model, wrapper, batch)
    assert [len(stopwatch.spans[part]) for part in ('backward', 'EMA')] == [3, 1]


def test_stopwatch_adds_up_the_calls():
    stopwatch = timing.Stopwatch()
    nap = stopwatch.timed('nap', time.sleep)
    nap(0.05)
    nap(0.15)
    assert 0.2 <= stopwatch.seconds('nap') < 1
    assert stopwatch.seconds('never') == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_stopwatch_times_the_gpu_and_not_the_calls():
    x = torch.randn(4096, 4096, device='cuda')
    stopwatch = timing.Stopwatch()
    multiply = stopwatch.timed('multiply', lambda: [x @ x for _ in range(50)])
    multiply()
    stopwatch.spans.clear()
    timing.synchronise()
    begin = time.perf_counter()
    multiply()
    timing.synchronise()
    assert stopwatch.seconds('multiply') == pytest.approx(time.perf_counter() - begin, rel=0.1)
