"""What another library has no place for is refused."""

import pytest

from mcl_mm.transfer import to_detectron2, to_mmpretrain, to_timm, to_torchvision
from tiny_exports import DEFORMABLE, backbone_alone

ARCH = dict(embed_dims=8, depths=[1] * 4, num_heads=[1] * 4)
NO_RESNETS = [
    dict(type='mmpretrain.SwinTransformer', arch=ARCH),
    dict(type='mmpretrain.ConvNeXt', arch=dict(depths=[1] * 4, channels=[8] * 4)),
]
DEEP_STEM, POOLED_SHORTCUT = [
    dict(type='mmpretrain.ResNetV1d', depth=18),
    dict(type='mmpretrain.ResNet', depth=18, avg_down=True),
]


@pytest.mark.parametrize(
    ('convert', 'config'),
    [(to_timm, config) for config in [*NO_RESNETS, DEFORMABLE]]
    + [
        (convert, config)
        for convert in (to_torchvision, to_detectron2)
        for config in [*NO_RESNETS, DEEP_STEM, POOLED_SHORTCUT, DEFORMABLE]
    ],
)
def test_backbone_without_a_place_is_refused(convert, config):
    _, weights = backbone_alone(**config)
    with pytest.raises(ValueError, match=r'has no place for backbone\..*--to mmdet'):
        convert(weights, config)
    if config is not DEFORMABLE:
        assert to_mmpretrain(weights, config).state_dict.keys() == weights.keys()


def test_caffe_style_is_refused_where_it_computes_something_else(export50):
    for convert in (to_torchvision, to_timm):
        with pytest.raises(ValueError, match="style='caffe'"):
            convert(export50, dict(type='mmpretrain.ResNet', style='caffe'))
    assert to_detectron2(export50, dict(style='caffe')).state_dict
