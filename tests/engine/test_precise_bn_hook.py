"""Running statistics before evaluation are those of many training batches; training goes on unmoved."""

import functools

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from mcl_mm.engine import PreciseBNHook
from mcl_mm.engine.precise_bn_hook import batch_sums
from mcl_mm.registry import DATASETS, HOOKS
from processes import run_ranks

IMAGES, BATCH = 12, 4


@DATASETS.register_module()
class NoisyImages(BaseDataset):
    """Images of noise, with noise added at each access."""

    def load_data_list(self):
        rng = np.random.default_rng(0)
        return [dict(image=rng.normal(3, 2, (2, 6, 6))) for _ in range(IMAGES)]

    def prepare_data(self, idx):
        image = self.get_data_info(idx)['image']
        return dict(inputs=torch.tensor(image + np.random.normal(0, 0.1, image.shape)).float())


class Net(BaseModel):
    """Two convs with batch norm, the second called twice, beside one that keeps its statistics."""

    def __init__(self):
        super().__init__(BaseDataPreprocessor())
        self.first, self.bn1 = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
        self.second, self.bn2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, momentum=0.3)
        self.kept = nn.BatchNorm2d(3)
        self.measured = []

    def train(self, mode=True):
        super().train(mode)
        self.kept.eval()
        return self

    def forward(self, inputs, mode='tensor'):
        if not torch.is_grad_enabled() and mode == 'loss':
            self.measured.append(inputs)
        x = self.bn1(self.first(inputs)).relu()
        y = self.bn2(self.second(x)) + self.bn2(self.second(2 * x))
        if mode == 'predict':
            return [dict()]
        return dict(loss=(self.kept(y) - torch.rand(1)).square().mean())


class EvaluatedMean(BaseMetric):
    """Remembers the running mean that is evaluated (in the first process)."""

    evaluated = None

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        self.evaluated = self.model.bn1.running_mean.clone()
        return dict()


def run(work_dir, hooks, train_cfg, **cfg):
    """Train ``Net``; return it as it is at the end, and the running mean evaluated last."""
    torch.manual_seed(0)
    metric = EvaluatedMean()
    metric.model = Net()
    loader = dict(
        batch_size=BATCH,
        num_workers=0,
        dataset=dict(type='NoisyImages'),
        sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='default_collate'),
    )
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        runner = Runner(
            model=metric.model, work_dir=str(work_dir), train_dataloader=loader,
            train_cfg=train_cfg, optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_dataloader=loader, val_cfg=dict(), val_evaluator=[metric], custom_hooks=hooks,
            launcher=cfg.pop('launcher', 'none'), default_scope='mcl_mm', randomness=dict(seed=5),
            log_level='ERROR', experiment_name=str(work_dir),
            cfg=dict(train_dataloader=loader, **cfg),
        )  # fmt: skip
        runner.train()
    return metric.model, metric.evaluated


def by_hand(model, batches):
    """Mean and variance of each BN's inputs over batches, in float64, layer by layer."""
    norm = dict(first=([], []), second=([], []))
    for batch in batches:
        x = model.first.double()(batch.double())
        norm['first'][0].append(x)
        x = (x - x.mean((0, 2, 3), keepdim=True)) / (
            x.var((0, 2, 3), unbiased=False, keepdim=True) + model.bn1.eps
        ).sqrt()
        x = (x * model.bn1.weight[:, None, None] + model.bn1.bias[:, None, None]).relu()
        norm['second'][0].extend([model.second.double()(x), model.second(2 * x)])
    statistics = []
    for inputs, _ in norm.values():
        means = torch.stack([x.mean((0, 2, 3)) for x in inputs])
        variances = torch.stack([x.var((0, 2, 3)) for x in inputs])
        mean = sum(means) / len(means)
        variance = sum(variances) / len(means) + sum((m - mean) ** 2 for m in means) / len(means)
        statistics += [mean, variance]
    return statistics


@pytest.mark.parametrize('num_batches', [200, 2])
def test_statistics_are_those_of_the_training_batches(tmp_path, num_batches):
    hook = dict(type='PreciseBNHook', num_batches=num_batches)
    epoch = dict(by_epoch=True, max_epochs=1)
    model, evaluated = run(tmp_path, [hook], epoch)
    batches = model.measured
    assert [len(b) for b in batches] == [BATCH] * min(num_batches, IMAGES // BATCH)
    saved = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)['state_dict']
    with torch.no_grad():
        mean1, var1, mean2, var2 = by_hand(model, batches)
    close = functools.partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
    for statistics, name, value in [
        (mean1, 'bn1.running_mean', evaluated),  # evaluated ...
        (mean1, 'bn1.running_mean', saved['bn1.running_mean']),  # ... and saved
        (var1, 'bn1.running_var', saved['bn1.running_var']),
        (mean2, 'bn2.running_mean', saved['bn2.running_mean']),
        (var2, 'bn2.running_var', saved['bn2.running_var']),
    ]:
        close(value.double(), statistics, msg=lambda text, name=name: f'{name}: {text}')
    assert torch.equal(model.kept.running_mean, torch.zeros(3))
    assert (model.bn1.momentum, model.bn2.momentum) == (0.1, 0.3)
    assert not model.bn1._forward_hooks


def test_only_before_evaluations_and_at_the_end(tmp_path, monkeypatch):
    def times(name, train_cfg):
        measured = []
        monkeypatch.setattr(
            PreciseBNHook, 'measure', lambda self, runner: measured.append(runner.iter + 1)
        )
        run(tmp_path / name, [dict(type='PreciseBNHook')], train_cfg)
        return measured

    per_epoch = IMAGES // BATCH
    epochs = times('a', dict(by_epoch=True, max_epochs=5, val_interval=2))
    assert [i // per_epoch for i in epochs] == [2, 4, 5]
    assert times('b', dict(by_epoch=False, max_iters=7, val_begin=3, val_interval=2)) == [4, 6, 7]


@pytest.mark.parametrize('train_cfg', [
    dict(by_epoch=True, max_epochs=3, val_interval=1),
    dict(by_epoch=False, max_iters=7, val_interval=2),
])  # fmt: skip
def test_training_is_the_same_with_and_without(tmp_path, train_cfg):
    """Same images in the same order with the same noise: the same weights, bit by bit."""
    without, _ = run(tmp_path / 'a', [], train_cfg)
    with_hook, _ = run(tmp_path / 'b', [dict(type='PreciseBNHook')], train_cfg)
    assert with_hook.measured
    for name, p in without.named_parameters():
        assert torch.equal(p, with_hook.get_parameter(name)), name
    assert not torch.equal(without.bn1.running_mean, with_hook.bn1.running_mean)


def test_other_batches_at_each_measurement_and_the_same_in_each_run(tmp_path):
    train_cfg = dict(by_epoch=True, max_epochs=2)
    one, _ = run(tmp_path / 'a', [dict(type='PreciseBNHook', num_batches=1)], train_cfg)
    two, _ = run(tmp_path / 'b', [dict(type='PreciseBNHook', num_batches=1)], train_cfg)
    first, second = one.measured
    assert not torch.allclose(first, second, atol=1)
    assert all(torch.equal(a, b) for a, b in zip(one.measured, two.measured))


def test_layers_are_as_before_after_an_error():
    model = nn.Sequential(nn.BatchNorm2d(2, momentum=0.2))
    with pytest.raises(ValueError, match='more than 1 value'), batch_sums(model):
        model(torch.zeros(1, 2, 1, 1))
    assert model[0].momentum == 0.2
    assert not model[0]._forward_hooks


def test_which_layers_are_measured():
    from mmcv.ops import (
        SyncBatchNorm,  # here: processes that this file starts have no operators yet
    )

    model = nn.ModuleDict(
        dict(
            torch=nn.BatchNorm1d(1),
            sync=nn.SyncBatchNorm(1),
            mmcv=SyncBatchNorm.__new__(SyncBatchNorm),
            frozen=nn.BatchNorm2d(1).eval(),
            none=nn.BatchNorm2d(1, track_running_stats=False),
            group=nn.GroupNorm(1, 1),
        )
    )
    mmcv = model['mmcv']  # it can only be built where there is a process group
    nn.Module.__init__(mmcv)
    mmcv.num_features, mmcv.momentum, mmcv.track_running_stats = 1, 0.1, True
    mmcv.register_buffer('running_mean', torch.zeros(1))
    with batch_sums(model) as sums:
        assert set(sums) == {model['torch'], model['sync'], mmcv}


def test_num_batches_is_checked():
    with pytest.raises(ValueError, match='num_batches must be at least 1, got 0'):
        HOOKS.build(dict(type='PreciseBNHook', num_batches=0))


def one_rank(rank, work_dir):
    model, _ = run(
        work_dir,
        [dict(type='PreciseBNHook')],
        dict(by_epoch=True, max_epochs=1),
        launcher='pytorch',
        model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None),
    )
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    return [batch.numpy() for batch in model.measured], state


def test_statistics_of_all_processes_are_averaged(tmp_path, free_port):
    (first, state), (second, other) = run_ranks(one_rank, 2, free_port, tmp_path)
    assert not np.allclose(first[0], second[0], atol=1)  # each its own images
    model = Net()
    model.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})
    with torch.no_grad():
        expected = by_hand(model, [torch.as_tensor(batch) for batch in first + second])
    names = ('bn1.running_mean', 'bn1.running_var', 'bn2.running_mean', 'bn2.running_var')
    for name, statistics in zip(names, expected):
        np.testing.assert_allclose(state[name], statistics, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(state[name], other[name])
