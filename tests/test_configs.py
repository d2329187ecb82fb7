"""Every config builds, and its schedule has the published values."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope, init_default_scope

from conftest import ROOT
from mcl_mm.registry import MODELS

CONFIGS = sorted((ROOT / 'configs').glob('*.py')) + [ROOT / 'configs/quickstart/pretrain.py']


def build_optimizer(cfg, model):
    cfg.optim_wrapper.type = 'OptimWrapper'  # mixed precision wants a GPU
    cfg.optim_wrapper.pop('loss_scale', None)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        return build_optim_wrapper(model, cfg.optim_wrapper)


def rates(cfg, iterations, epoch_length):
    """The learning rate at every iteration, from the config's own schedulers."""
    optimizer = torch.optim.SGD(
        [torch.nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr
    )
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(scheduler), default_args=dict(optimizer=optimizer, epoch_length=epoch_length)
        )
        for scheduler in cfg.param_scheduler
    ]
    series = []
    for _ in range(iterations):
        series.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return series


@pytest.mark.parametrize('path', CONFIGS, ids=lambda p: p.stem)
def test_config_builds(path):
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(cfg.model)
    optimizer = build_optimizer(cfg, model).optimizer
    trained = sum(p.numel() for group in optimizer.param_groups for p in group['params'])
    # The target is listed by MMEngine's constructor, but never gets a gradient.
    assert trained >= sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').rglob('*.py')), ids=lambda p: p.stem)
def test_config_opens_with_what_it_is_how_to_run_it_and_what_it_needs(path):
    if '_base_' not in path.parts:
        lines = path.read_text().splitlines()[:3]
        assert all(line.startswith('# ') for line in lines)
        assert 'tools/' in lines[1]


def test_learning_rate_over_the_whole_published_run():
    """Rate at 4096 images a step: warm-up times cosine, every one of 31,200 iterations."""
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    series = rates(cfg, 31200, epoch_length=312)
    assert series[0] == pytest.approx(0.0016)
    assert series[1000] == pytest.approx(5.1049, abs=5e-5)
    assert series[3126] == pytest.approx(15.6020, abs=5e-5)
    assert series[15600] == pytest.approx(8.00005, abs=5e-6)
    i = torch.arange(31200, dtype=torch.float64)
    expected = 1e-4 + (16 - 1e-4) * (1 + torch.cos(torch.pi * i / 31200)) / 2
    warm_up = 1 - (1 - i / 3127) * (1 - 1e-4)
    expected *= torch.where(i < 3127, warm_up, 1)
    torch.testing.assert_close(
        torch.tensor(series, dtype=torch.float64), expected, rtol=1e-5, atol=1e-7
    )
    assert series[3127] == pytest.approx(expected[3127].item(), rel=1e-6)


def test_published_recipe():
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    assert cfg.train_dataloader.batch_size == 128
    assert cfg.train_dataloader.drop_last
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=4096)
    assert cfg.optim_wrapper.clip_grad.max_norm == 500
    assert cfg.default_hooks.checkpoint.interval == 4
    accumulating = Config.fromfile(ROOT / 'configs/mcl_r50_100e_8gpu.py')
    images = 8 * accumulating.train_dataloader.batch_size
    assert images * accumulating.optim_wrapper.accumulative_counts == 4096
    # Scaled by images a step, the rate of an update stays that of 4096 images.
    assert images / accumulating.auto_scale_lr.base_batch_size == 1


def test_norms_and_biases_are_neither_decayed_nor_adapted():
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(cfg.model)
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    excluded, adapted = set(), set()
    for group in build_optimizer(cfg, model).optimizer.param_groups:
        for p in group['params']:
            if id(p) in names:
                (excluded if group.get('lars_exclude') else adapted).add(names[id(p)])
                assert group['weight_decay'] == (0 if group.get('lars_exclude') else 1e-5)
                assert group['lr'] == 16
    assert excluded | adapted == set(names.values())
    shapes = {name: p.dim() for name, p in model.named_parameters()}
    assert all(shapes[name] == 1 for name in excluded)
    assert all(shapes[name] > 1 for name in adapted)


def test_views_are_eight_and_sides_differ():
    init_default_scope('mcl_mm')
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    views = cfg.train_dataloader.dataset.pipeline[1]
    assert views.num_views == [4, 4]
    q, k = views.transforms
    order = ['RandomResizedCrop', 'RandomFlip', 'RandomApply', 'RandomGrayscale', 'GaussianBlur']
    assert [t.type.split('.')[-1] for t in q] == order
    assert [t.type.split('.')[-1] for t in k] == order + ['Solarize']
    assert (q[4].prob, k[4].prob, k[5].prob, k[5].thr) == (1.0, 0.1, 0.2, 128)
