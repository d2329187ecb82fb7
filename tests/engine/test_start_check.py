"""What cannot be trained on is refused before training."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler, RepeatDataset
from torch.utils.data import DataLoader

from conftest import ROOT, draw_images
from mcl_mm.datasets import LabelledImages
from mcl_mm.engine import TargetUpdateHook
from mcl_mm.engine.start_check import (
    check_batches,
    check_data,
    check_options,
    check_sides,
    check_target,
)


def loader_of(images, batch_size, sampler=DefaultSampler, **kwargs):
    """A loader of samples of eight views."""
    dataset = [dict(inputs=[torch.zeros(3, 32, 32, dtype=torch.uint8)] * 8)] * images
    return DataLoader(dataset, batch_size, sampler=sampler(dataset), **kwargs)


def test_last_batch_of_one_image(tiny_config, build):
    model = build(tiny_config)
    with pytest.raises(ValueError, match='last batch would hold one image.*drop_last=True'):
        check_batches(loader_of(9, 4), model)
    check_batches(loader_of(10, 4), model)
    check_batches(loader_of(9, 4, drop_last=True), model)
    check_batches(loader_of(9, 4, InfiniteSampler), model)


def test_montage_that_does_not_fit_the_last_batch(tiny_config, build):
    tiny_config['data_preprocessor']['montage'] = dict(
        type='mcl_mm.MontageTransform', num_sheets=(4, 1, 1, 1)
    )
    model = build(tiny_config)
    check_batches(loader_of(8, 4), model)
    with pytest.raises(ValueError, match='level 0 shows the 2 images'):
        check_batches(loader_of(10, 4), model)
    check_batches(loader_of(10, 4, drop_last=True), model)


@pytest.mark.parametrize(('side', 'better'), [(100, 96), (48, 64), (16, 32), (0, 32)])
@pytest.mark.parametrize(
    ('name', 'setting'),
    [
        ('mcl_r50_100e', 'train_dataloader.dataset.pipeline.1.transforms.1.0.scale'),
        ('mcl_r50_100e_fast', 'train_dataloader.dataset.pipeline.1.side'),
    ],
)
def test_side_that_has_no_whole_cells(name, setting, side, better):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    check_sides(cfg)
    cfg.merge_from_dict({setting: side})
    with pytest.raises(ValueError, match=f'multiple of 32 pixels, got {side}: .* to {better}'):
        check_sides(cfg)
    cfg.model.type = 'mmpretrain.MoCo'  # a method without sheets
    check_sides(cfg)


@pytest.mark.parametrize('norm', ['BN', 'GN'])
def test_one_sheet_of_one_cell(request, build, norm):
    config = request.getfixturevalue('tiny_config' if norm == 'BN' else 'group_norm_config')
    config['routed'] = True
    model = build(config)
    if norm == 'BN':
        with pytest.raises(
            ValueError, match=r'level \d has one sheet of 32 pixels.*at least 64 pixels'
        ):
            check_batches(loader_of(4, 4), model)
    else:
        check_batches(loader_of(4, 4), model)
    config['routed'] = False
    check_batches(loader_of(4, 4), build(config))


def test_a_target_that_nothing_moves(tiny_config, build):
    model = build(tiny_config)
    check_target(SimpleNamespace(hooks=[TargetUpdateHook()]), model)
    with pytest.raises(ValueError, match='custom_hooks=.*TargetUpdateHook'):
        check_target(SimpleNamespace(hooks=[]), model)
    with pytest.raises(ValueError, match='has no target'):
        check_target(SimpleNamespace(hooks=[TargetUpdateHook()]), model.backbone)
    check_target(SimpleNamespace(hooks=[]), model.backbone)


@pytest.mark.parametrize(
    ('part', 'setting', 'value', 'options'),
    [
        (None, 'early_backward', True, ['compile', 'activation_checkpointing']),
        ('neck', 'track_level', 0, ['activation_checkpointing']),
    ],
)
def test_options_that_do_not_go_with_the_model(tiny_config, build, part, setting, value, options):
    plain = build(tiny_config)
    (tiny_config[part] if part else tiny_config)[setting] = value
    model = build(tiny_config)
    check_options(Config(), model)
    for option in ('compile', 'activation_checkpointing'):
        cfg = Config({option: ['neck.projector.convs']})
        check_options(cfg, plain)
        if option not in options:
            check_options(cfg, model)
            continue
        with pytest.raises(ValueError, match=f'{setting}.*{option}|{option}.*{setting}'):
            check_options(cfg, model)
        check_options(Config({option: None}), model)


def wrapped(*parts):
    both = dict(type='ConcatDataset', datasets=parts, ignore_keys=['classes'])
    return RepeatDataset(both, times=2)


def test_labels_inside_of_wrappers(tmp_path):
    """Of the training and of the validation: as many classes as the model's, and the same ones."""

    def folder(name, *classes):
        for label in classes:
            draw_images(tmp_path / name / label, 1)
        return LabelledImages(data_root=str(tmp_path / name), pipeline=[])

    def check(train, val=None, num_classes=2):
        model = torch.nn.Module()
        model.head = SimpleNamespace(num_classes=num_classes)
        loops = [
            data
            and SimpleNamespace(dataloader=DataLoader(data), evaluator=SimpleNamespace(metrics=[]))
            for data in (train, val)
        ]
        check_data(SimpleNamespace(train_loop=loops[0], val_loop=loops[1], world_size=1), model)

    cats, dogs, three = folder('1', 'cat', 'cow'), folder('2', 'cat', 'dog'), folder('3', *'abc')
    check(wrapped(cats), wrapped(cats))
    with pytest.raises(ValueError, match=r'3 has 3 classes, the model 2: set .*num_classes=3'):
        check(wrapped(cats, three))
    with pytest.raises(ValueError, match='2 has other folders than .*: cow, dog'):
        check(wrapped(cats, dogs))
    with pytest.raises(ValueError, match='2 has other folders than .*: cow, dog'):
        check(cats, wrapped(dogs))
