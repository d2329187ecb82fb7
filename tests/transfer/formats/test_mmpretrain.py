"""A classifier of MMPretrain computes the same features; what has other names is refused."""

import pytest
import torch
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS

from mcl_mm.transfer import to_mmpretrain
from tiny_exports import DEFORMABLE, IMAGE, backbone_alone, same


@torch.no_grad()
def test_mmpretrain_classifier(resnet50, export50):
    renamed = to_mmpretrain(export50, dict(type='mmpretrain.ResNet'))
    assert set(renamed.state_dict) == {name for name in export50 if name.startswith('backbone.')}
    assert len(renamed.state_dict) + len(renamed.left) == len(export50)
    classifier = MMPRETRAIN_MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='ResNet', depth=50),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=2048),
        )
    ).eval()
    missing, unexpected = classifier.load_state_dict(renamed.state_dict, strict=False)
    assert unexpected == []
    assert sorted(missing) == ['head.fc.bias', 'head.fc.weight']
    pooled = resnet50.backbone(IMAGE)[-1].mean((2, 3))
    same([pooled], [classifier.extract_feat(IMAGE)[0]])


@pytest.mark.parametrize(
    'config', [DEFORMABLE, dict(type='mmdet.ResNetV1d', depth=50, base_channels=4)]
)
def test_mmdet_backbone_with_other_names_is_refused_by_mmpretrain(config):
    _, weights = backbone_alone(**config)
    with pytest.raises(ValueError, match='MMPretrain has no place for backbone'):
        to_mmpretrain(weights, config)


def test_mmdet_resnet_is_mmpretrains():
    config = dict(type='mmdet.ResNet', depth=50, base_channels=4)
    _, weights = backbone_alone(**config)
    ours, _ = backbone_alone(type='mmpretrain.ResNet', depth=50, stem_channels=64, base_channels=4)
    renamed = to_mmpretrain(weights, config).state_dict
    assert {k.removeprefix('backbone.') for k in renamed} == ours.state_dict().keys()
