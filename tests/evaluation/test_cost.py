"""Multiply-adds of a training step, counted operator by operator without computing any."""

from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from conftest import ROOT
from mcl_mm.evaluation.cost import multiply_adds
from mcl_mm.registry import MODELS


@pytest.mark.parametrize(
    ('joint', 'settings', 'expected'),
    [
        ('all', dict(), 147.0),
        ('backbone', dict(), 48.8),
        ('none', dict(), 46.0),
        ('all', dict(type='AuthorsMCL'), 180.8),
    ],
)
def test_multiply_adds_per_image(joint, settings, expected):
    """ResNet-50, 224 pixels, 32 images: the counts derived for the method, G per source image."""
    config = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model
    config.update(settings, joint=joint)
    step, backbone = multiply_adds(config, batch_size=32, side=224)
    assert step / 1e9 == pytest.approx(expected, rel=0.002)
    # 4.09 G forward, twice as much backward, where the first conv's input needs no gradient.
    assert backbone / 1e9 == pytest.approx(3 * 4.089 - 0.118, rel=0.001)


@pytest.mark.parametrize(('joint', 'expected'), [('all', 300), ('backbone', 312), ('none', 630)])
def test_calls_of_batch_norm(joint, expected, monkeypatch):
    """Forward, of a step: what several processes wait for each other in."""
    config = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(dict(config, joint=joint)).to('meta')
    calls = []
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.register_forward_hook(lambda *_: calls.append(1))
    views = [torch.empty(32, 3, 224, 224, device='meta')] * 4
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())  # knows no meta device
    model.loss(model.data_preprocessor.montage(views, views))
    assert len(calls) == expected


def test_grouped_convs_cost_their_groups():
    """ResNeXt-50 32x4d: 4.23 G forward (torchvision's documentation), as much again for each gradient."""
    config = Config.fromfile(ROOT / 'configs/backbones/mcl_resnext50-32x4d_100e.py').model
    _, backbone = multiply_adds(config, batch_size=8, side=224)
    assert backbone / 1e9 == pytest.approx(3 * 4.23 - 0.118, rel=0.005)


def test_the_reference_has_the_losses_of_the_dense_step(tiny_config, build, views):
    """It computes more in the target, and throws that away."""
    results, projected = [], []
    for reference in (False, True):
        model = build(dict(tiny_config, type='mcl_mm.AuthorsMCL' if reference else 'mcl_mm.MCL'))
        model.train()
        batch = dict(inputs=views(8))
        cells = []
        model.target.neck.projector.register_forward_hook(
            lambda _, args, output, cells=cells: cells.append(len(args[0]))
        )
        torch.manual_seed(1)
        results.append(model.loss(model.data_preprocessor(batch)['inputs']))
        projected.append(cells)
    torch.testing.assert_close(*results, rtol=0, atol=0)
    sheets = 8 + 2 + 1 + 1
    assert projected == [[sheets] * 2, [64 * sheets, 16 * sheets, 4 * sheets, sheets] * 2]
