"""The extra norm of MoCo's C4 detectors."""

import pytest
import torch
from mmdet.models import ResLayer

from mcl_mm.registry import MODELS


@pytest.mark.parametrize(('depth', 'channels'), [(18, 512), (50, 2048)])
def test_normalises_what_the_plain_stage_gives(depth, channels):
    layer = MODELS.build(
        dict(
            type='mcl_mm.ResLayerExtraNorm', depth=depth, norm_eval=False, norm_cfg=dict(type='BN')
        )
    )
    plain = ResLayer(depth, norm_eval=False)
    missing, unexpected = plain.load_state_dict(layer.state_dict(), strict=False)
    assert not missing
    assert {name.split('.')[0] for name in unexpected} == {'norm'}
    regions = torch.randn(2, channels // 2, 6, 6, generator=torch.manual_seed(0))
    with torch.no_grad():
        out, before = layer(regions), plain(regions)
    assert out.shape == (2, channels, 3, 3)
    mean = before.mean((0, 2, 3), keepdim=True)
    variance = before.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(
        out, (before - mean) / (variance + 1e-5).sqrt(), rtol=1e-4, atol=1e-4
    )
