"""A run by iterations does not count epochs, and an epoch has an end."""

import ast
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop

from conftest import draw_images
from mcl_mm.datasets import SeededSampler
from mcl_mm.engine import SafeCheckpointHook
from mcl_mm.engine.loop_check import check_loop
from mcl_mm.engine.run import adapt_to_machine, load_config, start, train
from tiny_probes import draw_colour_folders
from tiny_runs import write_config

IMAGES = range(8)
EPOCHS, ITERATIONS = EpochBasedTrainLoop, IterBasedTrainLoop


def runner_with(kind, sampler, *hooks):
    """As much of a Runner as is asked; its hooks have nothing more to refuse."""
    loop = kind.__new__(kind)
    loop.dataloader = SimpleNamespace(sampler=sampler)
    return SimpleNamespace(
        train_loop=loop, hooks=hooks, epoch=0, max_epochs=1, call_hook=lambda name: None
    )


def begin(config, work_dir, options):
    """A run as ``mcl-mm train`` starts it."""
    cfg = load_config(str(config), str(work_dir), options)
    adapt_to_machine(cfg)
    return start(cfg)


def advice(error):
    """The settings that a sentence names, as ``--cfg-options`` has them."""
    found = re.findall(r"([a-z_]+(?:\.\w+)+)=('\w+'|\w+)", str(error.value))
    return {name: ast.literal_eval(value) for name, value in found}


@pytest.mark.parametrize(
    ('by_epoch', 'options', 'sentence'),
    [
        (False, {'default_hooks.checkpoint.by_epoch': True}, 'nothing would be saved'),
        (False, {'train_dataloader.sampler.infinite': False}, 'would see other images'),
        (True, {'train_dataloader.sampler.infinite': True}, 'an epoch would never end'),
        (
            True,
            {'train_dataloader.sampler.type': 'mmengine.InfiniteSampler'},
            'an epoch would never end',
        ),
    ],
)
def test_a_run_is_refused_and_with_the_advice_it_saves(tmp_path, by_epoch, options, sentence):
    config = write_config(tmp_path, draw_images(tmp_path / 'images', 4), by_epoch)
    short = {'train_cfg.max_epochs' if by_epoch else 'train_cfg.max_iters': 1}
    options = {**short, **options}
    work_dir = tmp_path / 'work'
    with pytest.raises(ValueError, match=sentence) as error:
        begin(config, work_dir, options)
    options.update(advice(error))
    train(begin(config, work_dir, options))
    assert (work_dir / f'{"epoch" if by_epoch else "iter"}_1.pth').is_file()


def test_a_probe_that_counts_epochs(tmp_path):
    config = write_config(tmp_path, draw_images(tmp_path / 'images', 4), by_epoch=False)
    probe = dict(type='KNNProbe', data_root=str(draw_colour_folders(tmp_path)), side=64, interval=1)
    options = {'default_hooks.knn_probe': probe}
    with pytest.raises(ValueError, match='KNNProbe counts epochs.*give it by_epoch=False'):
        begin(config, tmp_path / 'work', options)
    probe['by_epoch'] = False
    begin(config, tmp_path / 'work', options)


@pytest.mark.parametrize(
    ('hook', 'saves'),
    [
        (
            CheckpointHook(interval=9),
            True,
        ),  # MMEngine's takes the run for an epoch: once, at its end
        (CheckpointHook(interval=1, save_last=False), True),
        (CheckpointHook(interval=9, save_last=False), False),
        (CheckpointHook(interval=9, save_last=False, by_epoch=False), True),
        (CheckpointHook(interval=-1, save_last=False, save_best='acc', rule='greater'), True),
        (SafeCheckpointHook(interval=1), False),
        (SafeCheckpointHook(interval=1, by_epoch=False), True),
    ],
)
def test_hooks_that_save_in_a_run_by_iterations(hook, saves):
    runner = runner_with(ITERATIONS, InfiniteSampler(IMAGES), hook)
    if saves:
        check_loop(runner)
        return
    with pytest.raises(ValueError, match='default_hooks.checkpoint.by_epoch=False'):
        check_loop(runner)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_epochs_may_be_saved_by_epochs_or_by_iterations(by_epoch):
    hook = SafeCheckpointHook(interval=2, by_epoch=by_epoch)
    check_loop(runner_with(EPOCHS, SeededSampler(IMAGES), hook))


@pytest.mark.parametrize(
    ('kind', 'sampler'),
    [
        (
            ITERATIONS,
            DefaultSampler(IMAGES),
        ),  # MMEngine begins it anew, and promises no place in it
        (ITERATIONS, SeededSampler(IMAGES, infinite=True)),
        (EPOCHS, torch.utils.data.SequentialSampler(IMAGES)),
    ],
)
def test_samplers_that_go_with_the_loop(kind, sampler):
    check_loop(runner_with(kind, sampler))
