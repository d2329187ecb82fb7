"""A resumed run goes on as its config says, and without changes to the bit."""

import functools
import math

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

import faults  # noqa: F401  (no waiting between epochs)
from mcl_mm.engine.follow_config import FollowConfigHook, ResumeError


class Tiny(BaseModel):
    """Two weights in two groups; their gradients depend on the iteration's data."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode):
        inputs = torch.stack(inputs)
        return dict(loss=((inputs * self.weight).sum(1) + self.bias - 1).square().mean())


def schedule(length, by_epoch=False, warm_up=4):
    return [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=warm_up),
        dict(type='CosineAnnealingLR', by_epoch=by_epoch, begin=0, end=length, T_max=length),
    ]


@pytest.fixture
def make(tmp_path):
    """Build a Runner; ``images`` and ``batch_size`` make the epochs' length."""
    count = iter(range(100))

    def runner(length=10, by_epoch=False, optimizer=None, images=8, batch_size=2, **settings):
        data = [torch.full((3,), index / images) for index in range(images)]
        unit = 'epochs' if by_epoch else 'iters'
        return Runner(
            Tiny(),
            str(tmp_path),
            train_dataloader=DataLoader(
                data, batch_size=batch_size, collate_fn=lambda batch: dict(inputs=batch)
            ),
            train_cfg={'by_epoch': by_epoch, f'max_{unit}': length},
            optim_wrapper=dict(
                optimizer=optimizer or dict(type='SGD', lr=1.0, momentum=0.9),
                paramwise_cfg=dict(bias_lr_mult=2.0),
            ),
            param_scheduler=settings.pop('param_scheduler', schedule(length, by_epoch)),
            default_hooks=dict(
                checkpoint=dict(type='CheckpointHook', by_epoch=by_epoch, interval=1),
                logger=dict(type='LoggerHook', interval=1),
            ),
            custom_hooks=[FollowConfigHook()],
            log_level='ERROR',
            experiment_name=f'run{next(count)}',
            **settings,
        )

    return runner


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mcl_mm.engine.follow_config.print_log', lambda text, *_: lines.append(text)
    )
    return lines


def trained(runner, checkpoint=None):
    """Train; return what is left and the rates of all iterations."""
    if checkpoint:
        runner._load_from, runner._resume = checkpoint, True
    rates = []
    step = runner.call_hook

    def call_hook(name, **kwargs):
        if name == 'before_train_iter':
            rates.append([group['lr'] for group in runner.optim_wrapper.optimizer.param_groups])
        step(name, **kwargs)

    runner.call_hook = call_hook
    runner.train()
    return runner, rates


def test_nothing_changed_goes_on_to_the_bit(make, tmp_path, said):
    whole, rates = trained(make())
    again, rest = trained(make(), str(tmp_path / 'iter_4.pth'))
    assert torch.equal(again.model.weight, whole.model.weight)
    assert rest == rates[4:]
    assert said == []


@pytest.mark.parametrize('length', [20, 7])
def test_longer_and_shorter_follow_the_new_schedule(make, tmp_path, said, length):
    trained(make())
    _, expected = trained(make(length))
    trained(make())
    _, rest = trained(make(length), str(tmp_path / 'iter_4.pth'))
    assert rest == expected[4:]
    assert f'CosineAnnealingLR.T_max: 10 -> {length}' in said[0]


def test_other_rate_and_settings(make, tmp_path, said):
    trained(make())
    optimizer = dict(type='SGD', lr=0.1, momentum=0.5, weight_decay=0.01)
    resumed, rest = trained(make(optimizer=optimizer), str(tmp_path / 'iter_6.pth'))
    for i, (weight, bias) in enumerate(rest, 6):
        assert weight == pytest.approx(0.1 * (1 + math.cos(math.pi * i / 10)) / 2)
        assert bias == pytest.approx(2 * weight)
    assert {group['momentum'] for group in resumed.optim_wrapper.param_groups} == {0.5}
    assert {group['weight_decay'] for group in resumed.optim_wrapper.param_groups} == {0.01}
    for line in ('optimizer.lr: 1.0 -> 0.1', 'optimizer.momentum: 0.9 -> 0.5',
                 'optimizer.weight_decay: 0 -> 0.01'):  # fmt: skip
        assert line in said[0]
    assert 'T_max' not in said[0]


@pytest.mark.parametrize(
    ('first', 'then', 'change'),
    [
        (dict(dtype='bfloat16', loss_scale=dict(enabled=False)), {}, 'bfloat16 -> float16'),
        ({}, dict(dtype='bfloat16', loss_scale=dict(enabled=False)), 'float16 -> bfloat16'),
    ],
)
def test_a_scaler_comes_and_goes(make, tmp_path, said, monkeypatch, first, then, change):
    monkeypatch.setattr(amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    scaler = functools.partial(torch.amp.GradScaler, 'cpu', init_scale=8.0)
    monkeypatch.setattr(amp_optimizer_wrapper, 'GradScaler', scaler)

    def mixed(settings):
        runner = make(length=4)
        runner.optim_wrapper.update(type='AmpOptimWrapper', **settings)
        return runner

    trained(mixed(first))
    resumed, _ = trained(mixed(then), str(tmp_path / 'iter_2.pth'))
    assert resumed.iter == 4
    assert resumed.optim_wrapper.loss_scaler.get_scale() == (1.0 if then else 8.0)
    assert f'precision: {change}' in said[0]


def test_other_settings_of_the_config(make, tmp_path, said):
    def with_model(**settings):
        runner = make(length=4)
        runner.cfg.merge_from_dict(dict(model=settings))
        return runner

    trained(with_model(joint='all', temperature=0.2))
    trained(with_model(joint='all', temperature=0.1), str(tmp_path / 'iter_2.pth'))
    assert said[0].splitlines()[1:] == ['    model.temperature: 0.2 -> 0.1']


def test_buffers_stay(make, tmp_path):
    first, _ = trained(make(length=4))
    momentum = first.optim_wrapper.optimizer.state[first.model.weight]['momentum_buffer'].clone()
    resumed = make(length=4, optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
    trained(resumed, str(tmp_path / 'iter_4.pth'))
    assert torch.equal(
        resumed.optim_wrapper.optimizer.state[resumed.model.weight]['momentum_buffer'], momentum
    )


def test_without_a_schedule_the_rate_is_the_configs(make, tmp_path):
    trained(make())
    _, rest = trained(make(param_scheduler=None), str(tmp_path / 'iter_6.pth'))
    assert rest == [[1.0, 2.0]] * 4


def test_schedule_by_epochs(make, tmp_path):
    trained(make(6, by_epoch=True))
    _, expected = trained(make(9, by_epoch=True))
    trained(make(6, by_epoch=True))
    _, rest = trained(make(9, by_epoch=True), str(tmp_path / 'epoch_3.pth'))
    assert rest == expected[12:]


def test_other_batch_keeps_the_epochs(make, tmp_path, said):
    """Half of the iterations, at the place where a run with that batch would be."""
    settings = dict(
        by_epoch=True,
        param_scheduler=[
            dict(
                type='CosineAnnealingLR', by_epoch=True, begin=0, end=6, convert_to_iter_based=True
            )
        ],
    )
    trained(make(6, **settings))
    resumed, rest = trained(make(6, batch_size=4, **settings), str(tmp_path / 'epoch_3.pth'))
    assert len(rest) == 3 * 2
    for i, (weight, _) in enumerate(rest, 6):
        assert weight == pytest.approx((1 + math.cos(math.pi * i / 12)) / 2)
    assert 'iterations done: 12 -> 6' in said[0]
    assert resumed.iter == 12


def test_more_is_done_than_asked_for(make, tmp_path):
    trained(make())
    with pytest.raises(ResumeError, match='8 iters behind it, the config asks for 5'):
        trained(make(5), str(tmp_path / 'iter_8.pth'))


def test_all_is_done(make, tmp_path, said):
    whole, _ = trained(make())
    again, rest = trained(make(), str(tmp_path / 'iter_10.pth'))
    assert rest == []
    assert torch.equal(again.model.weight, whole.model.weight)
    assert said == ['All 10 iters are done: there is nothing left to train.']


@pytest.mark.parametrize(
    'optimizer', [dict(type='AdamW', lr=1e-3), dict(type='mmpretrain.LARS', lr=1.0)]
)
def test_another_optimiser_is_refused(make, tmp_path, optimizer):
    trained(make())
    with pytest.raises(ResumeError, match='another kind .* load_from instead of --resume'):
        trained(make(optimizer=optimizer), str(tmp_path / 'iter_4.pth'))


@pytest.mark.parametrize('left', [None, {}])
def test_a_checkpoint_without_the_optimiser_is_refused(make, tmp_path, left):
    trained(make(6))
    checkpoint = torch.load(tmp_path / 'iter_6.pth', weights_only=False)
    checkpoint['optimizer'] = left
    if left is None:  # as with save_optimizer=False
        del checkpoint['optimizer']
    torch.save(checkpoint, tmp_path / 'other.pth')
    with pytest.raises(
        ResumeError, match='no state of the optimiser.*load_from instead of --resume'
    ):
        trained(make(9), str(tmp_path / 'other.pth'))


def test_the_seed_stays_and_that_is_said(make, tmp_path, said):
    settings = dict(randomness=dict(seed=1), cfg=dict(randomness=dict(seed=1)))
    trained(make(**settings))
    settings = dict(randomness=dict(seed=2), cfg=dict(randomness=dict(seed=2)))
    resumed, _ = trained(make(**settings), str(tmp_path / 'iter_4.pth'))
    assert resumed.seed == 1
    assert any('seed stays that of the checkpoint, 1' in text for text in said)


def test_precision_is_noted_and_its_change_said(make, tmp_path, said):
    trained(make())
    path = tmp_path / 'iter_4.pth'
    checkpoint = torch.load(path, weights_only=False)
    assert checkpoint['meta']['precision'] == 'float32'
    checkpoint['meta']['precision'] = 'bfloat16'
    torch.save(checkpoint, path)
    trained(make(), str(path))
    assert 'precision: bfloat16 -> float32' in said[0]
