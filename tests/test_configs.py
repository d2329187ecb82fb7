"""Every config builds, and its schedule has the published values."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner
from torch.nn.utils import clip_grad_norm_

from conftest import ROOT, draw_images
from mcl_mm.registry import MODELS

CONFIGS = sorted((ROOT / 'configs').glob('*.py')) + [ROOT / 'configs/quickstart/pretrain.py']


def build_optimizer(cfg, model):
    cfg.optim_wrapper.type = 'OptimWrapper'  # mixed precision wants a GPU
    for key in ('loss_scale', 'dtype'):
        cfg.optim_wrapper.pop(key, None)
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
    listed = {id(p) for group in optimizer.param_groups for p in group['params']}
    assert {id(p) for p in model.parameters() if p.requires_grad} <= listed
    assert model.neck.num_levels == len(model.data_preprocessor.montage.ratios) == 4


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


@pytest.fixture(scope='module')
def runner(tmp_path_factory):
    """The published recipe as MMEngine builds it, on two images and a fraction of the network."""
    folder = tmp_path_factory.mktemp('recipe')
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    cfg.train_dataloader.dataset.data_root = str(draw_images(folder / 'images', 300))
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    cfg.model.backbone.update(stem_channels=8, base_channels=8)
    cfg.model.neck.in_channels = [32, 64, 128, 256]
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.optim_wrapper.pop('loss_scale')
    cfg.work_dir = cfg.experiment_name = str(folder)
    cfg.log_level = 'ERROR'
    with DefaultScope.overwrite_default_scope('mmengine'):
        runner = Runner.from_cfg(cfg)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    return runner


def test_recipe_where_it_acts(runner):
    model, wrapper = runner.model, runner.optim_wrapper
    assert len(runner.train_loop.dataloader) == 2  # 300 images, batches of 128: the last is dropped
    assert runner.max_epochs == 100
    groups = wrapper.optimizer.param_groups
    assert type(wrapper.optimizer).__name__ == 'LARS'
    assert wrapper.optimizer.eps == 0
    assert {g['momentum'] for g in groups} == {0.9}
    assert {g['eta'] for g in groups} == {1e-3}
    assert {g['nesterov'] for g in groups} == {False}
    assert {g['lr'] for g in groups} == {16 * 128 / 4096}  # 1 process
    assert (wrapper.clip_func, wrapper.clip_grad_kwargs) == (clip_grad_norm_, dict(max_norm=500))
    hooks = {type(hook).__name__: hook for hook in runner.hooks}
    assert hooks['TargetUpdateHook'].base_momentum == 0.99
    names = list(hooks)  # measured before it is written
    assert names.index('IterTimerHook') < names.index('MonitorHook') < names.index('LoggerHook')
    assert (hooks['SafeCheckpointHook'].interval, hooks['SafeCheckpointHook'].by_epoch) == (4, True)
    assert model.head.temperature == 1.0
    assert tuple(model.head.loss_weights) == (1 / 2, 1 / 4, 1 / 8, 1 / 8)
    assert model.data_preprocessor.montage.sheets_per_level(128) == (128, 32, 8, 4)
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx(
        [123.675, 116.28, 103.53]
    )
    assert model.data_preprocessor.std.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])
    assert model.joint == 'all'


def test_backbone_initialises_as_published():
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    for conv in (backbone.conv1, backbone.layer3[1].conv1, backbone.layer4[0].conv2):
        fan_in = conv.weight[0].numel()
        assert conv.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
    norms = [m for m in backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == 53
    assert all((m.weight == 1).all() and (m.bias == 0).all() for m in norms)


@pytest.mark.parametrize(
    'line',
    re.findall(
        r'^model = dict\(.*?^\)$', (ROOT / 'docs/initial_weights.md').read_text(), re.M | re.S
    )
    or [''],
)
def test_documented_starting_points_fit_the_recipe(line, tmp_path):
    base = ROOT / 'configs/mcl_r50_100e.py'
    (tmp_path / 'config.py').write_text(f'_base_ = {str(base)!r}\n{line}\n')
    init_cfg = Config.fromfile(tmp_path / 'config.py').model.backbone.init_cfg
    assert init_cfg.type == 'Pretrained'
    assert set(init_cfg) <= {'type', 'checkpoint', 'prefix'}


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
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    views = cfg.train_dataloader.dataset.pipeline[1]
    assert views.num_views == [4, 4]
    q, k = views.transforms
    order = ['RandomResizedCrop', 'RandomFlip', 'RandomApply', 'RandomGrayscale', 'GaussianBlur']
    assert [t.type.split('.')[-1] for t in q] == order
    assert [t.type.split('.')[-1] for t in k] == order + ['Solarize']
    assert (q[4].prob, k[4].prob, k[5].prob, k[5].thr) == (1.0, 0.1, 0.2, 128)


def flatten(value, prefix=''):
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flatten(value[key], f'{prefix}{key}.').items()}
    return {prefix[:-1]: value}


@pytest.mark.parametrize('name', ['finetune', 'mask-rcnn_coco', 'retinanet_bccd'])
def test_rates_of_the_quickstart_detectors_are_for_their_batch(name):
    """The comparing tools scale the rate by the batch; here there is nothing to scale."""
    cfg = Config.fromfile(ROOT / f'configs/quickstart/{name}.py')
    assert cfg.auto_scale_lr.base_batch_size == cfg.train_dataloader.batch_size


def test_fast_recipe_changes_what_it_says_and_nothing_else():
    faithful, fast = (
        flatten(Config.fromfile(ROOT / f'configs/{name}.py').to_dict())
        for name in ('mcl_r50_100e', 'mcl_r50_100e_fast')
    )
    changed = {
        key for key in fast if fast[key] != faithful.get(key)
    } | faithful.keys() - fast.keys()
    assert {key for key in changed if not key.startswith(('colours.', 'fast_'))} == {
        'model.joint',
        'model.channels_last',
        'model.data_preprocessor.non_blocking',
        'model.data_preprocessor.photometric',
        'train_dataloader.dataset.pipeline',
        'optim_wrapper.dtype',
        'optim_wrapper.loss_scale',
        'optim_wrapper.loss_scale.enabled',
        'optim_wrapper.optimizer.type',
        'default_hooks.runtime_info.type',
        'sync_bn_group',
    }
    assert (faithful['optim_wrapper.optimizer.type'], fast['optim_wrapper.optimizer.type']) == (
        'mmpretrain.LARS',
        'LARS',
    )


@pytest.mark.parametrize('side', [0, 1], ids='qk')
def test_fast_recipe_augments_as_strongly_as_the_published_one(side):
    configs = [
        Config.fromfile(ROOT / f'configs/{name}.py')
        for name in ('mcl_r50_100e', 'mcl_r50_100e_fast')
    ]
    pipeline = configs[0].train_dataloader.dataset.pipeline[1].transforms[side]
    crop, flip, jitter, gray, blur = pipeline[:5]
    solarize = pipeline[5] if side else dict(prob=0.0, thr=128)
    views = configs[1].train_dataloader.dataset.pipeline[1]
    assert (views.side, views.flip_prob) == (crop.scale, flip.prob)
    assert tuple(views.crop_ratio_range) == tuple(crop.crop_ratio_range)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        ours = MODELS.build(configs[1].model.data_preprocessor.photometric[side])
    colours = jitter.transforms[0]
    assert ours.strengths == (colours.brightness, colours.contrast, colours.saturation)
    assert (ours.hue, ours.jitter_prob, ours.gray_prob) == (colours.hue, jitter.prob, gray.prob)
    assert (ours.blur_prob, tuple(ours.blur_sigma)) == (blur.prob, tuple(blur.magnitude_range))
    assert (ours.solarize_prob, ours.solarize_threshold) == (solarize['prob'], solarize['thr'])
