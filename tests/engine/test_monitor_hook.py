"""What the hook measures against closed forms, and when it warns."""

import json
import logging
import math
import re
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import LogProcessor, Runner

from conftest import ROOT, draw_images
from mcl_mm.engine import LevelLogProcessor, MonitorHook, effective_rank
from mcl_mm.engine.monitor_hook import count_images
from mcl_mm.models import MultiLevelContrastiveHead
from mcl_mm.models.multi_level_contrastive_head import gather_targets


def test_effective_rank_closed_forms():
    assert effective_rank(torch.eye(8)).item() == pytest.approx(8, rel=1e-6)
    assert effective_rank(torch.ones(20, 8)).item() == pytest.approx(1, rel=1e-4)
    assert effective_rank(3 * torch.eye(8)[:5]).item() == pytest.approx(5, rel=1e-6)
    p = torch.tensor([0.7, 0.2, 0.1])
    expected = math.exp(-sum(x * math.log(x) for x in p.tolist()))
    assert effective_rank(torch.diag(p)).item() == pytest.approx(expected, rel=1e-6)
    assert effective_rank(torch.tensor([[1.0, math.nan], [0.0, 1.0]])).isnan()


class Run:
    """A run in which the head sees the embeddings and the times that a test gives it."""

    def __init__(self, name, batch_size=8, interval=2, max_iters=100, **settings):
        torch.manual_seed(0)
        self.head = MultiLevelContrastiveHead(8, 16)
        self.hook = MonitorHook(**settings)
        self.runner = SimpleNamespace(
            hooks=[LoggerHook(interval=interval), self.hook],
            model=SimpleNamespace(head=self.head),
            optim_wrapper=SimpleNamespace(clip_grad_kwargs=dict(max_norm=1)),
            train_dataloader=MagicMock(batch_size=batch_size),
            message_hub=MessageHub.get_instance(name),
            log_processor=SimpleNamespace(window_size=interval),
            iter=0,
            max_iters=max_iters,
        )
        self.runner.train_dataloader.__len__.return_value = 1000
        self.batch_size = batch_size
        self.hook.before_train(self.runner)

    def step(self, embedding, time=1.0, wait=0.0, loss=None):
        """One iteration whose tiles all have the embeddings ``(B, D)`` on every level."""
        self.hook.before_train_iter(self.runner, self.runner.iter)
        sources = [torch.arange(self.batch_size)] * 4
        (target,) = gather_targets([embedding])
        scalars = {}
        for side in 'qk':
            scalars.update(
                self.head.loss(dict.fromkeys(range(4), embedding), sources, target, side)
            )
        if loss is not None:
            scalars.update({key: loss * self.chance(key) for key in scalars if 'loss' in key})
        for key, value in dict(scalars, time=time, data_time=wait).items():
            self.runner.message_hub.update_scalar(f'train/{key}', value)
        data = dict(inputs=[torch.zeros(self.batch_size, 3, 4, 4)] * 8)
        self.hook.after_train_iter(self.runner, self.runner.iter, data)
        self.runner.iter += 1

    def chance(self, key):
        return 2 * self.head.loss_weights[int(key[-1])] * math.log(self.batch_size)

    def logged(self, name):
        return self.runner.message_hub.get_scalar(f'train/{name}').current()


@pytest.fixture
def make_run(request):
    return lambda **settings: Run(f'{request.node.name}_{len(settings)}', **settings)


@pytest.fixture
def warnings(monkeypatch):
    """What is said, as (level, text)."""
    said = []
    monkeypatch.setattr(
        'mcl_mm.engine.monitor_hook.print_log',
        lambda text, logger=None, level=logging.INFO: said.append((level, text)),
    )
    return said


def spread(batch_size=8):
    return torch.randn(batch_size, 8, generator=torch.Generator().manual_seed(1))


def test_orthonormal_and_equal_embeddings(make_run):
    run = make_run()
    run.step(torch.eye(8))
    run.step(torch.eye(8))
    for side in 'qk':
        for level in range(4):
            rank, std = (run.logged(f'{name}_{side}_level_{level}') for name in ('rank', 'std'))
            assert rank == pytest.approx(8, rel=1e-5)
            assert std == pytest.approx(math.sqrt(1 / 8 - 1 / 64), rel=1e-5)
    run.step(torch.ones(8, 8))
    run.step(torch.ones(8, 8))
    assert run.logged('rank_k_level_2') == pytest.approx(1, rel=1e-3)
    assert run.logged('std_k_level_2') == pytest.approx(0, abs=1e-6)
    assert run.logged('gap_q_level_3') == 0


def test_gap_is_the_distance_of_the_means(make_run):
    run = make_run()
    embeddings = [[torch.randn(count, 8) for _ in range(4)] for count in (5, 6)]
    run.hook.embeddings = [*embeddings[0], *embeddings[1]]  # q, then k
    scalars = run.hook.measure_embeddings()
    assert 'gap_q_level_0' not in scalars
    for level in (1, 2, 3):
        for i, side in enumerate('qk'):
            means = [
                sum(F.normalize(x, dim=0) for x in embeddings[i][k]) / (5 + i) for k in (0, level)
            ]
            gap = (means[0] - means[1]).norm().item()
            assert scalars[f'gap_{side}_level_{level}'] == pytest.approx(gap, rel=1e-5)


def test_chance_ratio_accuracy_gap_and_speed(make_run):
    run = make_run(batch_size=4)
    run.step(spread(4), time=3.0)
    run.step(spread(4), time=1.0, loss=0.5)
    hub = run.runner.message_hub
    for level in range(4):
        losses = [hub.get_scalar(f'train/loss_{side}_level_{level}').mean(2) for side in 'qk']
        chance = 2 * (1 / 2, 1 / 4, 1 / 8, 1 / 8)[level] * math.log(4)
        assert run.logged(f'chance_ratio_level_{level}') == pytest.approx(
            sum(losses) / 2 / chance, rel=1e-6
        )
    assert run.logged('images_per_second') == pytest.approx(2 * 4 / 4.0)
    accuracies = [
        sum(hub.get_scalar(f'train/acc_{side}_level_{level}').mean(2) for side in 'qk') / 2
        for level in range(4)
    ]
    assert run.logged('acc_gap') == pytest.approx(max(accuracies) - min(accuracies))


def test_blind_predictions_are_at_chance(make_run):
    """Summed over levels and sides, chance is the published 4 ln(B)."""
    run = make_run(batch_size=8)
    total = sum(2 * run.hook.chance(level, 8) for level in range(4))
    assert total == pytest.approx(4 * math.log(8))
    for predictor in run.head.predictors:
        torch.nn.init.zeros_(predictor.fc1.weight)
        torch.nn.init.ones_(predictor.fc1.bias)
    run.head.eval()
    run.step(torch.ones(8, 8))
    run.step(torch.ones(8, 8))
    assert run.logged('chance_ratio_level_0') == pytest.approx(1, rel=1e-5)


def test_nothing_is_measured_between_two_logs(make_run):
    run = make_run(interval=3)
    calls = []
    run.head.predictors[0].register_forward_hook(lambda *_: calls.append(run.runner.iter))
    for _ in range(6):
        run.step(spread())
        assert len(run.head.predictors[0]._forward_pre_hooks) == 0
    assert calls == [i for i in range(6) for _ in 'qk']  # no forward pass of the hook's own
    buffer = run.runner.message_hub.get_scalar('train/std_q_level_0')
    assert len(buffer.data[0]) == 2


def test_a_healthy_run_is_not_warned_of(make_run, warnings):
    run = make_run(batch_size=64, max_iters=10)
    for _ in range(10):
        run.step(spread(64), wait=0.2, loss=0.9)
    assert warnings == []


@pytest.mark.parametrize(
    ('wrong', 'right', 'texts'),
    [
        (
            dict(embedding=torch.ones(64, 8), loss=0.9),
            dict(embedding=spread(64), loss=0.9),
            [f'Level {k} collapses: .*deviation of .*rank of 1.0 .possible 8' for k in range(4)],
        ),
        (
            dict(embedding=spread(64), loss=0.999),
            dict(embedding=spread(64), loss=0.9),
            [f'Level {k} is still at chance after .* among 64 targets' for k in range(4)],
        ),
        (
            dict(embedding=spread(64), loss=0.9, wait=0.5),
            dict(embedding=spread(64), loss=0.9),
            ['The data starves the device: 50% of the last 4 iterations'],
        ),
    ],
    ids=['collapse', 'chance', 'data'],
)
def test_each_trouble_is_said_once_until_it_recovers(make_run, warnings, wrong, right, texts):
    run = make_run(batch_size=64, interval=4, max_iters=40, min_spread=0.2)
    for situation, repeat in ((right, 8), (wrong, 12), (right, 8), (wrong, 8)):
        for _ in range(repeat):
            run.step(**situation)
    warned = [text for level, text in warnings if level == logging.WARNING]
    assert len(warned) == 2 * len(texts)
    for text, pattern in zip(warned, texts * 2):
        assert re.match(pattern, text), text
    assert len(warnings) == 3 * len(texts)  # and each recovery once
    assert all(text.startswith('No longer') for level, text in warnings if level == logging.INFO)


def test_nan_does_not_end_a_warning(warnings):
    hook = MonitorHook()
    for value in (0.0, float('nan')):
        scalars = {f'{name}_{side}_level_0': value for name in ('std', 'rank') for side in 'qk'}
        hook.warn_of_collapse(0, scalars, 64, 8)
    assert len(warnings) == 1
    assert hook.warned == {'collapse of level 0'}


def test_levels_are_not_judged_during_the_grace_and_one_long_wait_is_forgiven(make_run, warnings):
    run = make_run(batch_size=64, max_iters=100, grace=0.2, interval=5)
    run.step(torch.ones(64, 8), time=100.0, wait=99.0, loss=1.0)  # the workers start
    for _ in range(18):
        run.step(torch.ones(64, 8), loss=1.0)
    assert warnings == []
    run.step(torch.ones(64, 8), loss=1.0)
    assert len(warnings) == 8


def test_without_timer_or_accuracies_there_is_less_to_log(make_run, warnings):
    """Another head, another set of hooks: no reason to stop."""
    run = make_run(batch_size=4)
    hub = run.runner.message_hub
    run.hook.head.loss_weights = (1 / 2, 1 / 4, 1 / 8, 0)
    for _ in range(2):
        run.step(spread(4))
        for name in list(hub.log_scalars):
            if name.startswith(('train/time', 'train/acc')):
                hub.log_scalars.pop(name)
        run.hook.after_train_iter(run.runner, 1, dict(inputs=[torch.zeros(4)]))
    assert 'train/acc_gap' not in hub.log_scalars
    assert 'train/chance_ratio_level_2' in hub.log_scalars
    assert 'train/chance_ratio_level_3' not in hub.log_scalars


def test_what_cannot_be_measured_is_said(make_run, warnings, monkeypatch):
    """A compiled network calls no hooks: the rest is logged all the same."""
    run = make_run()
    monkeypatch.setattr(torch.nn.Module, 'register_forward_pre_hook', lambda *_: MagicMock())
    for _ in range(4):
        run.step(spread())
    assert [text for _, text in warnings if 'compiled' in text] == [warnings[0][1]]
    assert 'train/std_q_level_0' not in run.runner.message_hub.log_scalars
    assert run.logged('images_per_second') == 8


def test_impossible_share():
    with pytest.raises(ValueError, match='max_data_share is a share .* got 25'):
        MonitorHook(max_data_share=25)


def test_text_shows_one_number_a_level(monkeypatch):
    text = 'Iter(train) [1/2]  lr: 1e-3  loss: 8.0  momentum: 0.9'
    for level in range(2):
        for side, value in zip('qk', (1 + level, 2 + level)):
            text += f'  acc_{side}_level_{level}: {value:.4f}'
        text += f'  chance_ratio_level_{level}: 0.{level}'
    monkeypatch.setattr(LogProcessor, 'get_log_after_iter', lambda *_: (dict(a=1), text))
    tag, line = LevelLogProcessor().get_log_after_iter(None, 0, 'train')
    assert tag == dict(a=1)
    assert line == (
        'Iter(train) [1/2]  lr: 1e-3  loss: 8.0  momentum: 0.9  acc by level: 1.5 2.5'
        '  chance_ratio by level: 0 0.1'
    )


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A short run of the quickstart's config, with TensorBoard."""
    folder = tmp_path_factory.mktemp('monitored')
    cfg = Config.fromfile(ROOT / 'configs/quickstart/pretrain_published.py')
    cfg.merge_from_dict(
        {
            'train_dataloader.batch_size': 4,
            'train_dataloader.num_workers': 0,
            'train_dataloader.persistent_workers': False,
            'train_dataloader.dataset.data_root': str(draw_images(folder / 'images', 8)),
            'model.backbone.base_channels': 8,
            'model.backbone.stem_channels': 8,
            'model.neck.in_channels': [8, 16, 32, 64],
            'train_cfg.max_iters': 4,
            'default_hooks.logger.interval': 2,
            'work_dir': str(folder / 'run'),
            'experiment_name': str(folder),
        }
    )
    cfg.visualizer.vis_backends.append(dict(type='TensorboardVisBackend'))
    with DefaultScope.overwrite_default_scope('mmengine'):
        Runner.from_cfg(cfg).train()
    return folder / 'run'


def test_on_by_default_in_json_and_terminal(trained):
    lines = next(trained.glob('*/vis_data/scalars.json')).read_text().splitlines()
    scalars = [json.loads(line) for line in lines]
    assert [s['step'] for s in scalars] == [2, 4]
    for name in ('acc', 'std', 'rank', 'gap', 'loss', 'pos_cos'):
        for side in 'qk':
            for level in range(name == 'gap', 4):
                assert math.isfinite(scalars[-1][f'{name}_{side}_level_{level}'])
    assert 1 <= scalars[-1]['rank_q_level_0'] <= 4  # four images
    assert scalars[-1]['grad_norm'] > 0
    assert scalars[-1]['images_per_second'] > 0
    log = next(trained.glob('*/*.log')).read_text()
    line = next(line for line in log.splitlines() if 'Iter(train) [4/4]' in line)
    assert 'eta: 0:00:00' in line
    assert 'rank by level: ' in line
    assert 'rank_q_level_0' not in line


def test_tensorboard_gets_the_same(trained):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    events = accumulator.EventAccumulator(str(next(trained.glob('*/vis_data'))))
    events.Reload()
    lines = next(trained.glob('*/vis_data/scalars.json')).read_text().splitlines()
    expected = json.loads(lines[-1])
    for name in ('rank_q_level_1', 'acc_k_level_3', 'images_per_second', 'chance_ratio_level_0'):
        assert events.Scalars(name)[-1].value == pytest.approx(expected[name], rel=1e-5)


def test_a_head_with_one_predictor_or_one_side_is_watched_too(make_run):
    run = make_run()
    run.head.predictors = run.head.predictors[:1]
    run.step(torch.eye(8))
    run.step(torch.eye(8))
    assert run.logged('rank_k_level_3') == pytest.approx(8, rel=1e-5)
    assert run.logged('chance_ratio_level_3') > 0
    run.hook.embeddings = [torch.eye(8)] * 4  # of a method whose side k predicts nothing
    scalars = run.hook.measure_embeddings()
    assert set(scalars) == {
        f'{name}_q_level_{level}' for name in ('std', 'rank') for level in range(4)
    } | {f'gap_q_level_{level}' for level in (1, 2, 3)}


def test_without_negatives_there_is_no_chance_to_compare_with(make_run):
    run = make_run()
    assert run.hook.chance(0, 8) == pytest.approx(math.log(8))
    run.head.negatives = False
    run.step(torch.eye(8))
    run.step(torch.eye(8))
    assert run.hook.chance(0, 8) == 0
    assert 'train/chance_ratio_level_0' not in run.runner.message_hub.log_scalars


@pytest.mark.parametrize(
    'inputs',
    [
        torch.zeros(5, 3, 8, 8),  # one view: a supervised method
        [torch.zeros(5, 3, 8, 8)] * 2,
        [torch.zeros(3, 8, 8)] * 5,  # images of different sizes: a detector
    ],
)
def test_images_of_a_batch_are_counted_and_not_their_channels(inputs):
    assert count_images(inputs) == 5
