"""Recipes for scenes and for small sets: as many updates as they say, exact resume, clear refusals."""

import shutil

import pytest
import torch
from mmengine.config import Config
from test_configs import rates

from conftest import ROOT, draw_images
from mcl_mm.config import portable_text
from mcl_mm.datasets import UnlabelledImages
from tiny_runs import check_same_run, fault, run

COCO = ROOT / 'configs/mcl_r50_coco.py'
SMALL = ROOT / 'configs/mcl_r50_small.py'
TINY_SMALL = f"""
_base_ = {str(SMALL)!r}
custom_imports = dict(imports=['faults'])
model = dict(
    backbone=dict(depth=18, stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8, hid_channels=16, embed_channels=8),
    head=dict(in_channels=8, hid_channels=16),
)
pipeline = _base_.train_dataloader.dataset.pipeline
pipeline[1].side = 64
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(pipeline=pipeline)
)
train_cfg = dict(max_iters=8)
default_hooks = dict(logger=dict(interval=1))
env_cfg = dict(cudnn_benchmark=False)
log_level = 'WARNING'
"""


@pytest.fixture(params=['train2017', 'train2017 + unlabeled2017'])
def coco(request, tmp_path):
    """The config as shipped, and with its one line changed; with the images an epoch has."""
    if 'unlabeled' not in request.param:
        return Config.fromfile(COCO), 118287
    text = COCO.read_text().replace(
        "'mcl_r50_100e.py'", repr(str(ROOT / 'configs/mcl_r50_100e.py'))
    )
    (line,) = [row for row in text.splitlines() if row.startswith('images = ')]
    (switch,) = [row[2:] for row in text.splitlines() if row.startswith('# images = ')]
    (tmp_path / 'coco.py').write_text(text.replace(f'\n{line}\n', f'\n{switch}\n'))
    return Config.fromfile(tmp_path / 'coco.py'), 118287 + 123403


def test_coco_makes_as_many_updates_as_imagenet(coco):
    cfg, images = coco
    length = images // 4096
    assert abs(cfg.train_cfg.max_epochs * length - 31200) <= length / 2
    assert cfg.default_hooks.checkpoint.interval * 25 == pytest.approx(
        cfg.train_cfg.max_epochs, abs=25
    )


def test_coco_schedule_is_that_of_imagenet(coco):
    """At every share of the run, but for the rounding to whole epochs."""
    cfg, images = coco
    published = rates(Config.fromfile(ROOT / 'configs/mcl_r50_100e.py'), 31200, epoch_length=312)
    length = images // 4096
    count = cfg.train_cfg.max_epochs * length
    series = rates(cfg, count, epoch_length=length)
    for i in range(0, count, 100):
        assert series[i] == pytest.approx(published[i * 31200 // count], abs=0.01)


def test_coco_reads_the_folders_it_names_and_no_others(coco, tmp_path):
    for name in ('train2017', 'unlabeled2017', 'val2017', 'test2017'):
        draw_images(tmp_path / name, 2)
    settings = dict(coco[0].train_dataloader.dataset, data_root=str(tmp_path), pipeline=[])
    settings.pop('type')
    dataset = UnlabelledImages(**settings)
    folders = {dataset.get_data_info(i)['img_path'].split('/')[-2] for i in range(len(dataset))}
    assert folders == set(coco[0].images)


@pytest.mark.parametrize('iterations', [10000, 3000, 20])
def test_small_recipe_follows_its_number_of_iterations(tmp_path, iterations):
    """Warm-up, cosine, target and checkpoints, from the one line that says it."""
    text = portable_text(str(SMALL)).replace('iterations = 10000', f'iterations = {iterations}')
    (tmp_path / 'small.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'small.py')
    series = torch.tensor(rates(cfg, iterations, epoch_length=1), dtype=torch.float64)
    i = torch.arange(iterations, dtype=torch.float64)
    expected = 1e-3 * (1 + torch.cos(torch.pi * i / iterations)) / 2
    # MMEngine reaches the end of a warm-up one iteration early.
    warm_up = 1e-3 + (1 - 1e-3) * i / (iterations // 10 - 1)
    expected *= warm_up.clamp(max=1)
    torch.testing.assert_close(series, expected, rtol=1e-5, atol=1e-9)
    assert cfg.train_cfg.max_iters == iterations
    momentum = cfg.custom_hooks[0].base_momentum
    # Its memory is the published share of the run, 100 of 31,200 updates, and no shorter than 25 updates.
    assert 1 / (1 - momentum) == pytest.approx(max(25, iterations * 100 / 31200))
    assert iterations % cfg.default_hooks.checkpoint.interval == 0


def test_supervised_recipe_is_the_small_one_with_labels():
    """The same steps, schedule and views; the head, the data and the target differ."""
    cfg, small = (
        Config.fromfile(ROOT / f'configs/mcl_r50_small{n}.py') for n in ('_supervised', '')
    )
    for key in ('param_scheduler', 'optim_wrapper', 'train_cfg', 'auto_scale_lr', 'default_hooks'):
        assert cfg[key] == small[key], key
    assert cfg.train_dataloader.dataset.pipeline == small.train_dataloader.dataset.pipeline
    assert cfg.train_dataloader.dataset.type == cfg.test_dataloader.dataset.type == 'LabelledImages'
    published = Config.fromfile(ROOT / 'configs/mcl_r50_100e_supervised.py')
    assert cfg.model.head == {**published.model.head, 'num_classes': 2}
    assert cfg.test_dataloader == published.test_dataloader
    assert cfg.test_evaluator == dict(type='mmpretrain.Accuracy', topk=(1,))
    assert cfg.custom_hooks == []


def test_recipe_for_a_cpu_is_the_small_one_at_the_size_of_the_quickstart():
    """It learns from one side, and for as many updates as the small one."""
    cfg, small, quick = (
        Config.fromfile(ROOT / f'configs/{name}.py')
        for name in ('mcl_r18_small', 'mcl_r50_small', 'quickstart/pretrain')
    )
    for key in ('param_scheduler', 'train_cfg', 'custom_hooks'):
        assert cfg[key] == small[key], key
    assert cfg.model.pop('symmetric') is False
    assert cfg.model.data_preprocessor.pop('non_blocking')
    assert cfg.model == quick.model
    assert cfg.train_dataloader.dataset.pipeline == quick.train_dataloader.dataset.pipeline
    assert cfg.auto_scale_lr.base_batch_size == quick.train_dataloader.batch_size
    assert cfg.optim_wrapper.optimizer == quick.optim_wrapper.optimizer


def test_supervised_recipe_learns_two_folders_and_resumes(tmp_path):
    images = tmp_path / 'images'
    for seed, name in enumerate('ab'):
        draw_images(images / name, 5, seed=seed)
    text = TINY_SMALL.replace(str(SMALL), str(SMALL).replace('.py', '_supervised.py'))
    text = text.replace('head=dict(in_channels=8, hid_channels=16)', 'head=dict(in_channels=8)')
    config = tmp_path / 'small.py'
    config.write_text(
        f'{text}train_dataloader.update(dataset=dict(data_root={str(images)!r}, pipeline=pipeline))\n'
    )
    run(config, tmp_path / 'whole')
    run(config, tmp_path / 'cut', *fault(4, 'SIGTERM'), code=75)
    run(config, tmp_path / 'cut')
    check_same_run(tmp_path / 'cut', tmp_path / 'whole')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A tiny version of the recipe for a handful of images: two steps an epoch."""
    folder = tmp_path_factory.mktemp('small')
    images = draw_images(folder / 'images', 9)
    (folder / 'small.py').write_text(
        f'{TINY_SMALL}train_dataloader.update(dataset=dict(data_root={str(images)!r}, pipeline=pipeline))\n'
    )
    return folder


def test_small_run_that_is_stopped_and_resumed_ends_as_one_that_is_not(folder):
    """In the third of its epochs, with workers before and without after."""
    config = folder / 'small.py'
    run(config, folder / 'whole')
    run(config, folder / 'cut', 'train_dataloader.num_workers=2', *fault(4, 'SIGTERM'), code=75)
    assert (folder / 'cut/last_checkpoint').read_text().endswith('iter_5.pth')
    run(config, folder / 'cut')
    check_same_run(folder / 'cut', folder / 'whole')


def test_fewer_images_than_a_batch_are_refused(folder, tmp_path):
    shutil.copytree(folder / 'images', tmp_path / 'images')
    options = [
        f'train_dataloader.dataset.data_root={tmp_path}/images',
        'train_dataloader.batch_size=10',
    ]
    output = run(folder / 'small.py', tmp_path / 'run', *options, code=1)
    message = 'ValueError: no batch to train on: 9 images do not fill one batch of 10 on each of 1'
    assert message in output.splitlines()[-1]
    assert 'Lower train_dataloader.batch_size' in output.splitlines()[-1]
