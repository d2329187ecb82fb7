"""Multiply-adds of a training step, counted operator by operator without computing any."""

import pytest
from benchmark import multiply_adds
from mmengine.config import Config

from conftest import ROOT


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        (dict(routed=False), 147.0),
        (dict(routed=True), 46.0),
        (dict(routed=False, reference=True), 180.8),
    ],
)
def test_multiply_adds_per_image(settings, expected):
    """ResNet-50, 224 pixels, 32 images: the counts derived for the method, G per source image."""
    config = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model
    config.routed = settings.pop('routed')
    step, backbone = multiply_adds(config, batch_size=32, side=224, **settings)
    assert step / 1e9 == pytest.approx(expected, rel=0.01)
    # 4.09 G forward, twice as much backward, where the first conv's input needs no gradient.
    assert backbone / 1e9 == pytest.approx(3 * 4.089 - 0.118, rel=0.001)
