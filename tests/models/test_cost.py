"""Multiply-adds of a training step, counted operator by operator without computing any."""

from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.utils.flop_counter import FlopCounterMode

from conftest import ROOT
from mcl_mm.registry import MODELS


@pytest.mark.parametrize(('routed', 'expected'), [(False, 147.0), (True, 46.0)])
def test_multiply_adds_per_image(routed, expected, monkeypatch):
    """ResNet-50, 224 pixels, 32 images: the counts derived for the method, G per source image."""
    # Autocast knows no meta device.
    monkeypatch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())
    config = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model
    config.routed = routed
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(config).to('meta')
    views = [torch.empty(32, 3, 224, 224, device='meta') for _ in range(8)]
    montages = model.data_preprocessor.montage(views[:4], views[4:])
    with FlopCounterMode(display=False) as counter:
        losses = model.loss(montages)
        sum(value for key, value in losses.items() if key.startswith('loss')).backward()
    per_image = counter.get_total_flops() / 2 / 32 / 1e9
    assert per_image == pytest.approx(expected, rel=0.01)
