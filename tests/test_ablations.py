"""Ablations: one change each, and every one of them trains."""

import re

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from conftest import ROOT, draw_images
from mcl_mm.evaluation.cost import multiply_adds
from mcl_mm.registry import DATASETS, MODELS
from mcl_mm.transfer import to_mmdet

FOLDER = ROOT / 'configs/ablations'
LEVELS = {
    'model.data_preprocessor.montage.ratios',
    'model.data_preprocessor.montage.appearances',
    'model.head.loss_weights',
    'train_dataloader.dataset.pipeline',
    'find_unused_parameters',
}
CHANGES = {
    'levels_1': LEVELS,
    'levels_2': LEVELS,
    'levels_3': LEVELS,
    'joint_backbone': {'model.joint'},
    'routed': {'model.joint'},
    'separate_tiles': {'model.joint', 'model.data_preprocessor.montage.pasted'},
    'antialiased': {'model.data_preprocessor.montage.antialias'},
    'no_negatives': {'model.head.negatives'},
    'shared_predictor': {'model.head.shared_predictor'},
    'one_sided': {'model.symmetric'},
    'batch_1024': {'optim_wrapper.optimizer.lr', 'auto_scale_lr.base_batch_size'},
    'batch_256': {
        'optim_wrapper.optimizer.lr',
        'auto_scale_lr.base_batch_size',
        'train_dataloader.batch_size',
    },
}


def flatten(value, prefix=''):
    if isinstance(value, dict):
        return {k: v for key in value for k, v in flatten(value[key], f'{prefix}{key}.').items()}
    return {prefix[:-1]: value}


def changes(ours, theirs):
    """Keys, variables of the files aside, in which two configs differ."""
    ours, theirs = (flatten(Config.fromfile(path).to_dict()) for path in (ours, theirs))
    keys = {k for k in ours.keys() | theirs.keys() if ours.get(k, '-') != theirs.get(k, '-')}
    return {key for key in keys if not key.startswith('multi_view.')}


def test_all_are_listed():
    assert {path.stem for path in FOLDER.glob('*.py')} == {
        *CHANGES,
        'mask-rcnn_without-fpn_1x_coco',
    }
    table = (FOLDER / 'README.md').read_text()
    assert set(re.findall(r'`([\w-]+)\.py`', table)) >= CHANGES.keys()


@pytest.mark.parametrize('name', CHANGES)
def test_one_change(name):
    assert changes(FOLDER / f'{name}.py', ROOT / 'configs/mcl_r50_100e.py') == CHANGES[name]


@pytest.mark.parametrize('levels', [1, 2, 3])
def test_fewer_levels_are_the_first_ones(levels):
    whole = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    cfg = Config.fromfile(FOLDER / f'levels_{levels}.py')
    for key in ('ratios', 'appearances'):
        montage = cfg.model.data_preprocessor.montage
        assert montage[key] == whole.model.data_preprocessor.montage[key][:levels]
    assert cfg.model.head.loss_weights == whole.model.head.loss_weights[:levels]
    views, all_views = (c.train_dataloader.dataset.pipeline[1] for c in (cfg, whole))
    assert views.num_views == [levels, levels]
    assert views.transforms == all_views.transforms


@pytest.mark.parametrize(('name', 'gpus'), [('batch_1024', 8), ('batch_256', 8)])
def test_rates_are_in_proportion_to_the_batch(name, gpus):
    whole = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    images = gpus * cfg.train_dataloader.batch_size
    assert images == cfg.auto_scale_lr.base_batch_size == int(name.split('_')[1])
    assert cfg.optim_wrapper.optimizer.lr / images == whole.optim_wrapper.optimizer.lr / 4096


def test_the_detector_without_a_pyramid():
    base = ROOT / 'configs/transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py'
    path = FOLDER / 'mask-rcnn_without-fpn_1x_coco.py'
    assert changes(path, base) == {'custom_hooks'}
    ours, theirs = Config.fromfile(path).custom_hooks, Config.fromfile(base).custom_hooks
    assert ours[0] == dict(theirs[0], parts=('backbone', 'box_head'))
    assert ours[1:] == theirs[1:]


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return draw_images(tmp_path_factory.mktemp('images'), 8)


@pytest.mark.parametrize('name', CHANGES)
def test_trains(name, images):
    """From the config's own data to a changed network, of a size for tests."""
    cfg = Config.fromfile(FOLDER / f'{name}.py')
    cfg.model.backbone.update(depth=18, stem_channels=8, base_channels=8)
    cfg.model.neck.update(
        in_channels=[8, 16, 32, 64], out_channels=8, hid_channels=16, embed_channels=8
    )
    cfg.model.head.update(in_channels=8, hid_channels=16)
    dataset = cfg.train_dataloader.dataset
    dataset.data_root = str(images)
    for pipeline in dataset.pipeline[1].transforms:
        pipeline[0].scale = 64
    cfg.optim_wrapper.type = 'OptimWrapper'
    cfg.optim_wrapper.pop('loss_scale')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        batch = default_collate([DATASETS.build(dataset)[index] for index in range(8)])
        model = MODELS.build(cfg.model)
        model.init_weights()
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    before = {key: value.clone() for key, value in model.named_parameters()}
    scalars = model.train_step(batch, wrapper)
    model.update_target(0.9)
    unused = set() if cfg.get('find_unused_parameters') else None
    for key, value in model.named_parameters():
        if not key.startswith('target.') and torch.equal(before[key], value):
            assert unused is not None, key
            unused.add(key.split('.')[2])
    assert unused in (None, {'lateral_convs', 'fpn_convs'})
    assert all(torch.isfinite(value).all() for value in scalars.values())
    parts = {key.split('.')[0] for key in to_mmdet(model.state_dict())}
    assert parts == {'backbone', 'neck', 'roi_head'}


def test_counts_in_the_table():
    """A sample of the table; the command below it prints all."""
    table = (FOLDER / 'README.md').read_text()
    for name in ('levels_1', 'one_sided'):
        listed = float(re.search(rf'`{name}\.py`.*\| ([\d.]+) \|', table)[1])
        cost, _ = multiply_adds(Config.fromfile(FOLDER / f'{name}.py').model, 128, 224)
        assert cost / 1e9 == pytest.approx(listed, abs=0.06)
