"""Networks of timm compute the same features."""

import pytest
import timm
import torch

from mcl_mm.transfer import to_timm
from tiny_exports import IMAGE, backbone_alone, same


@torch.no_grad()
def test_timm_resnet50(resnet50, export50):
    renamed = to_timm(export50, dict(style='pytorch'))
    assert len(renamed.state_dict) + len(renamed.left) == len(export50)
    assert {name.split('.')[0] for name in renamed.left} == {'neck', 'roi_head'}
    model = timm.create_model('resnet50', num_classes=0, pretrained=False).eval()
    model.load_state_dict(renamed.state_dict, strict=True)
    same([resnet50.backbone(IMAGE)[-1]], [model.forward_features(IMAGE)])
    features = timm.create_model('resnet50', features_only=True, out_indices=(1, 2, 3, 4)).eval()
    features.load_state_dict(renamed.state_dict, strict=True)
    same(resnet50.backbone(IMAGE), features(IMAGE))


@pytest.mark.parametrize(
    ('name', 'config'),
    [
        ('resnet18', dict(type='mmpretrain.ResNet', depth=18)),
        ('resnet18d', dict(type='mmpretrain.ResNetV1d', depth=18)),
        ('resnet50c', dict(type='mmpretrain.ResNetV1c', depth=50)),
        ('resnet50d', dict(type='mmpretrain.ResNetV1d', depth=50)),
        ('resnet50d', dict(type='mmdet.ResNetV1d', depth=50)),
        (
            'resnext50_32x4d',
            dict(type='mmpretrain.ResNeXt', depth=50, groups=32, width_per_group=4),
        ),
    ],
)
@torch.no_grad()
def test_timm_variants(name, config):
    backbone, weights = backbone_alone(**config)
    model = timm.create_model(name, features_only=True, out_indices=(1, 2, 3, 4)).eval()
    model.load_state_dict(to_timm(weights, config).state_dict, strict=True)
    same(backbone(IMAGE), model(IMAGE))


@torch.no_grad()
def test_timm_network_that_timm_built():
    config = dict(type='mmpretrain.TIMMBackbone', model_name='resnet10t', features_only=True)
    backbone, weights = backbone_alone(**config)
    model = timm.create_model('resnet10t', features_only=True, out_indices=(0, 1, 2, 3)).eval()
    model.load_state_dict(to_timm(weights, config).state_dict, strict=True)
    same(backbone(IMAGE), model(IMAGE))
