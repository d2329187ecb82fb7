"""Scalars are read from the device when a line is due, and none is lost."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import ROOT, draw_images
from mcl_mm.engine import LazyRuntimeInfoHook


class ReadsOfTheDevice(TorchDispatchMode):
    """Counts what makes the host wait for a value."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def train(image_folder, work_dir, lazy, max_iters=7):
    """Train a tiny network; return what it logged and saved, and its reads in each iteration."""
    cfg = Config.fromfile(ROOT / 'configs/quickstart/pretrain_published.py')
    cfg.model.backbone.update(stem_channels=4, base_channels=4)
    cfg.model.neck.update(in_channels=[4, 8, 16, 32], out_channels=4, embed_channels=4)
    cfg.model.head.in_channels = 4
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    cfg.train_cfg.max_iters = max_iters
    cfg.param_scheduler = []
    cfg.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1), clip_grad=dict(max_norm=1.0))
    cfg.default_hooks.logger.interval = 3
    cfg.default_hooks.checkpoint.update(interval=5, max_keep_ckpts=-1)
    # What other hooks read is not the matter here.
    for name in [name for name in cfg.default_hooks if name not in ('logger', 'checkpoint')]:
        cfg.default_hooks.pop(name)
    cfg.pop('log_processor')
    cfg.log_processor = dict(by_epoch=False, window_size=2)
    if lazy:
        cfg.default_hooks.runtime_info = dict(type='mcl_mm.LazyRuntimeInfoHook')
    cfg.work_dir = cfg.experiment_name = str(work_dir)
    cfg.log_level = 'ERROR'
    reads, known = [], []
    with DefaultScope.overwrite_default_scope('mmengine'):
        runner = Runner.from_cfg(cfg)
        runner._train_loop = runner.build_train_loop(runner._train_loop)
        run_iter = runner.train_loop.run_iter

        def counted(*args):
            with ReadsOfTheDevice() as mode:
                run_iter(*args)
            reads.append(mode.count)
            history = runner.message_hub.log_scalars.get('train/loss')
            known.append(len(history.data[0]) if history else 0)

        runner.train_loop.run_iter = counted
        runner.train()
    lines = next(work_dir.rglob('scalars.json')).read_text().splitlines()
    checkpoint = torch.load(work_dir / 'iter_5.pth', weights_only=False)
    return SimpleNamespace(
        scalars=runner.message_hub.log_scalars,
        lines=[json.loads(line) for line in lines],
        saved=checkpoint['message_hub']['log_scalars'],
        reads=reads,
        known=known,
    )


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('lazy')
    images = draw_images(folder / 'images', 8)
    return [train(images, folder / str(lazy), lazy) for lazy in (False, True)]


def test_histories_are_the_same(runs):
    theirs, ours = (run.scalars for run in runs)
    assert set(ours) == set(theirs)
    assert len([key for key in ours if 'loss' in key]) == 9
    assert 'train/grad_norm' in ours
    for key in ours:
        assert len(ours[key].data[0]) == 7, key
        if 'time' not in key:
            np.testing.assert_allclose(ours[key].data[0], theirs[key].data[0], rtol=1e-6)


def test_what_is_logged_is_the_same(runs):
    theirs, ours = (run.lines for run in runs)
    assert [line['step'] for line in ours] == [2, 3, 6]  # two iterations are an epoch
    for a, b in zip(theirs, ours):
        assert a.keys() == b.keys()
        assert {'loss', 'grad_norm', 'loss_q_level_0'} <= a.keys()
        for key in a.keys() - {'time', 'data_time'}:
            assert b[key] == pytest.approx(a[key], rel=1e-6), key


def test_a_checkpoint_between_two_lines_has_the_whole_history(runs):
    for run in runs:
        for key in ('train/loss', 'train/grad_norm'):
            assert len(run.saved[key].data[0]) == 5


def test_device_is_read_only_for_lines_and_checkpoints(runs):
    eager, lazy = runs
    assert min(eager.reads) > 25  # losses, cosines and the norm, in every iteration
    assert eager.known == [1, 2, 3, 4, 5, 6, 7]
    assert lazy.reads == [0] * 7  # never one by one
    assert lazy.known == [0, 2, 3, 3, 5, 6, 7]  # lines after 2, 3, 6; checkpoints after 5, 7


def test_nothing_pending():
    LazyRuntimeInfoHook().hand_on(runner=None)
