"""Small models and images that every test can use."""

import copy
import functools
import gc
import os
import runpy
import signal
import socket
import sys
from pathlib import Path

import mmdet
import mmengine.config.utils
import numpy as np
import pytest
import torch
import yapf.yapflib.yapf_api
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer
from PIL import Image

from mcl_mm.cli import main
from mcl_mm.engine.stop_signal import SIGNALS
from mcl_mm.registry import MODELS
from mcl_mm.transfer import to_mmdet
from mcl_mm.transfer.detector import child_config
from tiny_exports import published_model

ROOT = Path(__file__).parents[1]


def remembered(function):
    """A function of a text and settings that computes the same only once."""
    known = {}

    def call(text, **settings):
        key = text, repr(settings)
        if key not in known:
            known[key] = function(text, **settings)
        return known[key]

    return call


def read_once(read):
    """What reads configs, such that it reads those of MMDetection and of this package only once."""
    known, folders = {}, (str(Path(mmdet.__file__).parent), str(ROOT / 'configs'))

    def call(filename, *args, **settings):
        if not str(filename).startswith(folders):
            return read(filename, *args, **settings)
        key = str(filename), args, repr(settings)
        if key not in known:
            found = read(filename, *args, **settings)
            if found[2] or '{{$' in found[1]:  # has variables of the environment
                return found
            known[key] = found
        return copy.deepcopy(known[key])

    return call


def unformatted(load):
    """What loads a config from code, without first breaking it into lines for the eye."""

    def call(self):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(child_config, 'FormatCode', lambda text, **_: (text, True))
            return load(self)

    return call


# What is imported here and while tests are collected is no garbage, and to search it takes seconds.
gc.disable()
# Two cores, many small processes: more threads only wait for each other.
os.environ.setdefault('OMP_NUM_THREADS', '1')
MMLogger.get_instance('mmengine', log_level='ERROR')
# Every run writes its config five times over. To format a detector's for the eye takes seconds each time.
# What writes configs for users, child_config, has the real function by now.
yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, True)
# It formats what it loads as well, the same text many times over.
child_config.FormatCode = remembered(child_config.FormatCode)
child_config.ChildConfig.load = unformatted(child_config.ChildConfig.load)
# For each base mmdet::NAME, MMEngine reads all hundred metafiles of MMDetection.
mmengine.config.utils.load = functools.cache(mmengine.config.utils.load)
# And each config with all its bases, over and over.
Config._file2dict = staticmethod(read_once(Config._file2dict))

# Files of tests that take half a minute and more.
LONGEST = (
    'test_launch_scripts', 'test_tools', 'test_untrusted', 'test_supply', 'test_docs', 'test_backbones',
    'test_transfer_configs', 'test_config_rules', 'test_probe', 'test_adapt_command', 'test_benchmark',
    'test_compare_pretrain', 'test_compare_transfer', 'test_ablations', 'test_step', 'test_resume',
    'test_adapt', 'test_rates', 'test_fake_cuda', 'test_cost', 'test_scaling',
)  # fmt: skip

TINY = dict(
    type='mcl_mm.MCL',
    backbone=dict(
        type='mmpretrain.ResNet',
        depth=18,
        stem_channels=8,
        base_channels=8,
        out_indices=(0, 1, 2, 3),
    ),
    neck=dict(
        type='mcl_mm.MCLNeck',
        in_channels=[8, 16, 32, 64],
        out_channels=8,
        hid_channels=16,
        embed_channels=8,
    ),
    head=dict(type='mcl_mm.MultiLevelContrastiveHead', in_channels=8, hid_channels=16),
    data_preprocessor=dict(type='mcl_mm.MontageDataPreprocessor', mean=[127.0], std=[64.0]),
)

# Settings of a pre-training run of two steps.
SMALL = [
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'train_cfg.max_iters=2',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.logger.interval=1',
    'log_level=ERROR',
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, or one process would be alone with it at the end."""
    items.sort(key=lambda item: (*LONGEST, item.path.stem).index(item.path.stem))


def pytest_collection_finish() -> None:
    """From now on there is garbage."""
    gc.freeze()
    gc.enable()


def call_tool(monkeypatch, tool: str, *arguments) -> None:
    """Run ``tools/<tool>.py``, or the command of this name, in this process, in a fresh MMEngine scope.

    Raises SystemExit unless it ends well.
    """
    path = ROOT / 'tools' / f'{tool}.py'
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, arguments)])
    with DefaultScope.overwrite_default_scope('mmengine'):
        try:
            if path.exists():
                runpy.run_path(str(path), run_name='__main__')
            else:
                main(tool)
        except SystemExit as end:
            if end.code:
                raise


@pytest.fixture(autouse=True, scope='module')
def modules_are_no_garbage():
    """Every data set of MMEngine's collects garbage, which takes seconds amid all that is imported."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='module')
def own_scope():
    """A fixture of a module that runs something leaves MMEngine's default scope to its module alone."""
    before = copy.copy(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict = before


@pytest.fixture(autouse=True)
def own_global_state():
    """What a Runner leaves behind does not reach the next test.

    It sets MMEngine's default scope for good, and a later run of the same name (and second, which
    is part of the name) would get its message hub and its visualizer, with its folder. One that
    fails keeps the handlers of signals, which processes forked later would inherit.
    """
    before = copy.copy(DefaultScope._instance_dict)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    DefaultScope._instance_dict = before
    for shared in (MessageHub, Visualizer, DetLocalVisualizer):
        shared._instance_dict.clear()


@pytest.fixture
def quick_weights(monkeypatch):
    """Large weights are drawn in part and repeated, for tests of names and shapes; their rank is lower."""
    draw = torch.nn.init.kaiming_uniform_

    def kaiming_uniform(tensor, *arguments, **settings):
        rows = max(1, 2**16 // tensor[0].numel())
        with torch.no_grad():
            draw(tensor[:rows], *arguments, **settings)
            for part in tensor.split(rows)[1:]:
                part.copy_(tensor[: len(part)])
        return tensor

    monkeypatch.setattr(torch.nn.init, 'kaiming_uniform_', kaiming_uniform)


@pytest.fixture
def tiny_config():
    """Config of an MCL of about 50,000 parameters."""
    return copy.deepcopy(TINY)


@pytest.fixture
def group_norm_config(tiny_config):
    """The same without batch norm: no image's features depend on the others."""
    norm_cfg = dict(type='GN', num_groups=4)
    for part in ('backbone', 'neck', 'head'):
        tiny_config[part]['norm_cfg'] = norm_cfg
    return tiny_config


@pytest.fixture
def build():
    """Build and initialise a model from its config, the same every time."""

    def build_model(config):
        torch.manual_seed(0)
        model = MODELS.build(copy.deepcopy(config))
        model.init_weights()
        return model

    return build_model


def tiny_detector(name: str) -> Config:
    """One of MMDetection's configs, at the size of ``TINY`` and as the weights want it."""
    cfg = get_config(f'mmdet::{name}')
    cfg.sync_bn = 'torch'
    norm_cfg = dict(type='BN', requires_grad=True)
    model = cfg.model
    model.backbone = dict(
        type='ResNet',
        depth=18,
        stem_channels=8,
        base_channels=8,
        norm_cfg=norm_cfg,
        norm_eval=False,
    )
    model.neck.update(in_channels=[8, 16, 32, 64], out_channels=8, norm_cfg=norm_cfg)
    for part in ('rpn_head', 'bbox_head'):
        if part in model:
            model[part].update(in_channels=8, feat_channels=32)
    if 'roi_head' in model:
        model.roi_head.bbox_roi_extractor.out_channels = 8
        heads = model.roi_head.bbox_head
        for head in heads if isinstance(heads, list) else [heads]:
            head.update(
                type='Shared4Conv1FCBBoxHead',
                in_channels=8,
                conv_out_channels=8,
                fc_out_channels=16,
                num_classes=3,
                norm_cfg=norm_cfg,
            )
    return cfg


def build_detector(model: dict) -> torch.nn.Module:
    """A detector of MMDetection in evaluation mode, with random weights."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(copy.deepcopy(model)).eval()


@pytest.fixture
def pretrained(tiny_config, build):
    """A pre-training model with BN statistics that are not trivial, in evaluation mode."""
    model = build(tiny_config)
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


@pytest.fixture(scope='module')
def resnet50():
    """The model of the paper, in evaluation mode."""
    return published_model()


@pytest.fixture(scope='module')
def export50(resnet50):
    """Its weights under MMDetection's names."""
    return to_mmdet(resnet50.state_dict())


@pytest.fixture(scope='module')
def export():
    """An export of the widths of ``tiny_detector``'s, whose ResNet has the blocks of a ResNet-50."""
    from tiny_detectors import exported  # which needs this file

    return exported(50)


@pytest.fixture
def views():
    """Eight uint8 views, 64 pixels, of ``batch_size`` images."""

    def make(batch_size, side=64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        shape = (batch_size, 3, side, side)
        return [torch.randint(0, 256, shape, generator=generator).byte() for _ in range(8)]

    return make


def draw_images(folder: Path, count: int, size=(90, 70), seed=0) -> Path:
    """Write JPEGs with a few coloured boxes each, no two alike."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = np.full((size[1], size[0], 3), rng.integers(0, 256, 3), np.uint8)
        for _ in range(6):
            x, y = rng.integers(0, size[0] - 10), rng.integers(0, size[1] - 10)
            image[y : y + 25, x : x + 30] = rng.integers(0, 256, 3)
        Image.fromarray(image).save(folder / f'{index:04d}.jpg', quality=95)
    return folder


@pytest.fixture
def image_folder(tmp_path):
    """A folder of 24 small JPEGs."""
    return draw_images(tmp_path / 'images', 24)


@pytest.fixture
def free_port():
    """A TCP port nobody listens on."""
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]
