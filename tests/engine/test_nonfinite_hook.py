"""A NaN never reaches the weights: skipped and counted under mixed precision, else the run stops."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.dist import master_only
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.structures import BaseDataElement
from torch import nn

from mcl_mm.engine import NonFiniteHook
from mcl_mm.engine.nonfinite_hook import explain
from mcl_mm.transfer import read_checkpoint
from processes import run_ranks

IMAGES = ['a.jpg', 'b.jpg']


class Line(nn.Module):
    """Two weights; the input multiplies the first, the second takes part as it is. Keeps the last input."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor(2.0))
        self.second = nn.Parameter(torch.tensor(3.0))
        self.register_buffer('seen', torch.zeros(()))


def runner_of(model, wrapper, folder):
    """As much of a Runner as the hook needs; the first process saves."""
    wrapper.initialize_count_status(nn.Module(), 0, 1000)
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrapper,
        message_hub=MessageHub(f'nonfinite{id(model)}'),
        logger=Mock(),
        work_dir=str(folder),
        epoch=0,
        iter=0,
    )

    def save_checkpoint(folder, name, meta, **_):
        history = runner.message_hub.state_dict()
        runner.saved = dict(state_dict=model.state_dict(), meta=meta, message_hub=history)
        runner.hook.before_save_checkpoint(runner, runner.saved)
        torch.save(runner.saved, f'{folder}/{name}')

    runner.save_checkpoint = master_only(save_checkpoint)
    runner.hook = NonFiniteHook()
    runner.hook.before_train(runner)
    return runner


@pytest.fixture
def make_runner(tmp_path, monkeypatch):
    def make(mixed_precision=False, **kwargs):
        model = Line()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        if mixed_precision:
            monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
            monkeypatch.setattr(
                amp_optimizer_wrapper,
                'GradScaler',
                lambda **k: torch.amp.GradScaler('cpu', 8.0, **k),
            )
            wrapper = AmpOptimWrapper(optimizer=optimizer, **kwargs)
        else:
            wrapper = OptimWrapper(optimizer, **kwargs)
        return runner_of(model, wrapper, tmp_path)

    return make


def step(runner, x=1.0, extra=0.0):
    """One iteration with the losses ``first * x`` and ``second + extra``."""
    model = runner.model
    runner.hook.before_train_iter(runner, runner.iter)
    model.seen.fill_(x)
    losses = dict(loss_q_level_2=model.first * x, loss_k_level_1=model.second + extra)
    losses['loss'] = sum(losses.values())
    runner.optim_wrapper.update_params(losses['loss'])
    batch = dict(data_samples=[BaseDataElement(metainfo=dict(img_path=name)) for name in IMAGES])
    outputs = {name: value.detach() for name, value in losses.items()}
    for name, value in outputs.items():
        runner.message_hub.update_scalar(f'train/{name}', value.item())
    runner.hook.after_train_iter(runner, runner.iter, batch, outputs)
    runner.iter += 1


def weights(runner):
    return [p.item() for p in runner.model.parameters()]


@pytest.mark.parametrize('clip', [None, dict(max_norm=1.0)])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_run_stops_before_the_update(make_runner, tmp_path, clip, value):
    runner = make_runner(clip_grad=clip)
    step(runner)
    before = weights(runner)
    with pytest.raises(FloatingPointError, match=r'iteration 2: not finite: loss_q_level_2\. '):
        step(runner, value)
    assert weights(runner) == before
    report = json.loads((tmp_path / 'nonfinite_iter_2/batch_0.json').read_text())
    assert report['images'] == IMAGES
    assert report['losses']['loss_q_level_2'] == str(value)
    state = read_checkpoint(tmp_path / 'nonfinite_iter_2/state.pth')
    assert state['meta'] == dict(epoch=0, iter=1)  # resuming repeats the step
    assert [v.item() for v in state['state_dict'].values()] == [*before, 1.0]
    # What a resumed run would average.
    assert runner.saved['message_hub']['log_scalars']['train/loss'].data[0].tolist() == [5.0]


def test_gradient_alone(make_runner):
    """The square root of 0: a finite loss with an infinite gradient."""
    runner = make_runner()
    before = weights(runner)
    extra = torch.sqrt(runner.model.first * 0 + 0 * runner.model.second)
    with pytest.raises(FloatingPointError, match='all losses are finite, . gradients are not'):
        step(runner, extra=extra)
    assert weights(runner) == before


def test_loss_amid_accumulation(make_runner):
    """The batch named is the one that has it, not the one that ends the accumulation."""
    runner = make_runner(accumulative_counts=4)
    step(runner)
    with pytest.raises(FloatingPointError, match='iteration 2: '):
        step(runner, float('nan'))


def test_mixed_precision_skips_and_counts(make_runner):
    runner = make_runner(mixed_precision=True)
    step(runner)
    before = weights(runner)
    step(runner, float('inf'))
    step(runner, float('inf'))
    assert weights(runner) == before
    assert runner.model.seen == 1.0
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0
    step(runner)
    assert weights(runner) != before
    assert runner.message_hub.get_scalar('train/skipped_updates').current() == 2
    assert runner.logger.warning.call_count == 2
    resumed = NonFiniteHook()  # the count is in the message hub, which checkpoints hold
    resumed.before_train(runner)
    assert resumed.skipped == 2


def test_mixed_precision_stops_when_nothing_is_learned(make_runner):
    runner = make_runner(mixed_precision=True)
    for _ in range(runner.hook.MAX_SKIPPED_IN_A_ROW - 1):
        step(runner, float('nan'))
    with pytest.raises(FloatingPointError, match='50 updates in a row were skipped'):
        step(runner, float('nan'))


def test_bfloat16_without_a_scaler_stops_as_full_precision_does(make_runner):
    runner = make_runner(mixed_precision=True, loss_scale=dict(enabled=False))
    step(runner)
    before = weights(runner)
    with pytest.raises(FloatingPointError, match='iteration 2: not finite: loss_q_level_2'):
        step(runner, float('nan'))
    assert weights(runner) == before


def test_bfloat16_with_a_scaler_skips_for_gradients_and_stops_for_a_loss(make_runner):
    """MMEngine scales unless told not to, and what is scaled for long enough overflows in any range."""
    runner = make_runner(mixed_precision=True, dtype='bfloat16')
    before = weights(runner)
    step(runner, extra=torch.sqrt(runner.model.first * 0 + 0 * runner.model.second))
    assert runner.message_hub.get_scalar('train/skipped_updates').current() == 1
    with pytest.raises(FloatingPointError, match='iteration 2: not finite: loss_q_level_2'):
        step(runner, float('nan'))
    assert weights(runner) == before


def test_finite_steps_are_left_alone(make_runner):
    runner, reference = make_runner(), torch.tensor([2.0, 3.0], requires_grad=True)
    optimizer = torch.optim.AdamW([reference], lr=0.1)
    for _ in range(3):
        step(runner, 1.5)
        optimizer.zero_grad()
        (reference * torch.tensor([1.5, 1.0])).sum().backward()
        optimizer.step()
    assert weights(runner) == reference.tolist()


def one_rank(rank, folder, kind, scaled):
    """One of two processes that share their gradients; the first has a bad loss, and is slow to save.

    Returns:
        tuple[bool, bool]: Whether it stopped, and whether the state was there at its end.
    """
    model = Line()
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: torch.distributed.all_reduce(p.grad))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapper = OptimWrapper(optimizer)
    if scaled:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
            patch.setattr(
                amp_optimizer_wrapper, 'GradScaler', lambda: torch.amp.GradScaler('cpu', 8.0)
            )
            wrapper = AmpOptimWrapper(optimizer=optimizer, dtype='bfloat16')
    runner = runner_of(model, wrapper, folder)
    save = runner.save_checkpoint
    runner.save_checkpoint = lambda *args, **kwargs: (time.sleep(1 - rank), save(*args, **kwargs))
    stopped = False
    bad = dict(x=float('nan')) if kind == 'nan' else dict(extra=float('inf'))
    try:
        step(runner, **(bad if rank == 0 else {}))
    except FloatingPointError:
        stopped = True
    return stopped, (Path(folder) / 'nonfinite_iter_1/state.pth').is_file()


@pytest.mark.parametrize('scaled', [False, True])
def test_all_processes_wait_for_the_one_that_writes(tmp_path, free_port, scaled):
    """Or the launcher would end it amid its file. In bfloat16 with a scaler they stop together as well."""
    found = run_ranks(one_rank, 2, free_port, str(tmp_path), 'nan', scaled)
    assert found == [(True, True), (True, True)]
    assert (tmp_path / 'nonfinite_iter_1/batch_1.json').is_file()


def test_a_process_that_stops_alone_waits_for_nobody(tmp_path, free_port):
    """Its loss is infinite by a constant, so all gradients are finite and the other process goes on."""
    (stopped, saved), (other_stopped, _) = run_ranks(
        one_rank, 2, free_port, str(tmp_path), 'constant', False
    )
    assert (stopped, saved, other_stopped) == (True, True, False)


def test_words():
    nan = float('nan')
    assert explain(dict(loss_q_level_0=nan, loss_k_level_3=nan, loss=nan, pos_cos=nan), []) == (
        'not finite: loss_q_level_0, loss_k_level_3'
    )
    assert explain(dict(loss=1.0), ['a.weight', 'b']).endswith('first that of a.weight')
