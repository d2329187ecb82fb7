"""Rates of fine-tuning: lower in layers near the image, and others for pre-trained parts."""

import re

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm

from conftest import ROOT

PAGE = (ROOT / 'docs/protocols.md').read_text()


def lines_of(title):
    """The first lines of config below a title of the page."""
    section = PAGE.split(f'\n### {title}\n')[1]
    block = re.search(r'\n((?:\n?    [^\n]*\n)+)', section)[1]
    return Config.fromstring(re.sub(r'^    ', '', block, flags=re.M), '.py')


def rates(model, optim_wrapper):
    """Rate and weight decay of each parameter, by name."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        optimizer = build_optim_wrapper(model, optim_wrapper).optimizer
    found = {
        id(p): (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert len(found) == sum(1 for _ in model.parameters())
    return {name: found[id(p)] for name, p in model.named_parameters()}


@pytest.fixture(scope='module')
def mask_rcnn():
    cfg = Config.fromfile(ROOT / 'configs/transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py')
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(cfg.model)


def spark_layer(name):
    """How many layers of SparK's lie between a parameter and the heads (its ``lr_factor_func``)."""
    if not name.startswith('backbone.'):
        return 0
    found = re.match(r'backbone\.layer(\d)\.(\d)', name)
    if not found:
        return 6
    stage, block = map(int, found.groups())
    return {1: 5, 2: 4, 3: 3 if block < 3 else 2, 4: 1}[stage]


def test_rates_as_spark(mask_rcnn):
    cfg = Config.fromfile(ROOT / 'configs/transfer/coco_R_50_FPN_CONV_1x_moco_adam.py')
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=2.5e-4, weight_decay=1e-4)
    norms = {
        f'{name}.{kind}'
        for name, module in mask_rcnn.named_modules()
        if isinstance(module, _BatchNorm)
        for kind in ('weight', 'bias')
    }
    for name, (rate, decay) in rates(mask_rcnn, cfg.optim_wrapper).items():
        assert rate == pytest.approx(2.5e-4 * 0.6 ** spark_layer(name)), name
        assert decay == (0 if name in norms else 1e-4), name


def test_sizes_and_drops_as_spark():
    cfg = Config.fromfile(ROOT / 'configs/transfer/coco_R_50_FPN_CONV_1x_moco_adam.py')
    warm_up, drops = cfg.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (0.01, 1000)
    assert (drops.milestones, drops.gamma) == ([8, 11], 0.25)
    sides = [side for _, side in cfg.train_dataloader.dataset.pipeline[2].scales]
    assert sides == [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800, 832, 864, 896]


def test_another_rate_for_pretrained_parts(mask_rcnn):
    cfg = Config.fromfile(ROOT / 'configs/transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py')
    cfg.merge_from_dict(lines_of('Another rate for what is pre-trained').to_dict())
    pretrained = ('backbone.', 'neck.', 'roi_head.bbox_head.shared_convs.')
    for name, (rate, decay) in rates(mask_rcnn, cfg.optim_wrapper).items():
        assert rate == pytest.approx(0.02 * (0.1 if name.startswith(pretrained) else 1)), name
        assert decay == 1e-4, name


def test_layers_of_convnext():
    """MMDetection's constructor: stem 0, stages 1, 2, 3 to 5 by three blocks, 6; then neck and heads."""
    cfg = Config.fromfile(ROOT / 'configs/transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py')
    cfg.merge_from_dict(lines_of('Layer by layer: ConvNeXt').to_dict())
    with DefaultScope.overwrite_default_scope('mmdet'):
        backbone = MMDET_MODELS.build(
            dict(type='mmpretrain.ConvNeXt', arch='tiny', out_indices=[0, 1, 2, 3])
        )
    detector = BaseModule()
    detector.backbone, detector.neck = backbone, torch.nn.Conv2d(8, 8, 1)

    def layer(name):
        part = name.split('.')
        if part[0] != 'backbone' or part[1].startswith('norm'):
            return 7
        if part[1] == 'downsample_layers':
            return (0, 2, 3, 6)[int(part[2])]
        return (1, 2, 3 + int(part[3]) // 3, 6)[int(part[2])]

    for name, (rate, decay) in rates(detector, cfg.optim_wrapper).items():
        assert rate == pytest.approx(1e-4 * 0.7 ** (7 - layer(name))), name
        flat = dict(detector.named_parameters())[name].dim() == 1
        assert decay == (0 if flat else 0.05), name


def test_no_constructor_takes_a_resnet(mask_rcnn):
    """Why a ResNet's layers are written out."""
    for constructor, paramwise in (
        ('LearningRateDecayOptimizerConstructor', dict(num_layers=6, decay_rate=0.7)),
        (
            'mmpretrain.LearningRateDecayOptimWrapperConstructor',
            dict(layer_decay_rate=0.7),
        ),
    ):
        optim_wrapper = dict(
            constructor=constructor,
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
            paramwise_cfg=paramwise,
        )
        with pytest.raises(NotImplementedError):
            rates(mask_rcnn, optim_wrapper)
