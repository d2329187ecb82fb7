"""Detectors and networks of torchvision compute the same features."""

from functools import partial

import torch
import torchvision
from torch import nn
from torchvision.models import detection

from mcl_mm.registry import MODELS
from mcl_mm.transfer import to_mmdet, to_torchvision
from tiny_exports import IMAGE, randomise, same


def first_four(head, cells):
    """The convs of a box head of torchvision."""
    return nn.Sequential(*list(head)[:4])(cells)


@torch.no_grad()
def test_torchvision_mask_rcnn(resnet50, export50):
    renamed = to_torchvision(export50, dict(style='pytorch'))
    assert len(renamed.state_dict) == len(export50)
    assert renamed.left == {}
    detector = detection.maskrcnn_resnet50_fpn_v2(weights=None, weights_backbone=None).eval()
    missing, unexpected = detector.load_state_dict(renamed.state_dict, strict=False)
    assert unexpected == []
    # 0 to 3 are the convs of the box head, 5 its fully connected layer.
    random = ('rpn.', 'roi_heads.box_head.5.', 'roi_heads.box_predictor.', 'roi_heads.mask_')
    assert all(name.startswith(random) for name in missing)
    pyramid = detector.backbone(IMAGE)
    same(resnet50.extract_feat(IMAGE), [pyramid[str(level)] for level in range(4)])
    cells = torch.randn(3, 256, 7, 7)
    same([resnet50.neck.projector.convs(cells)], [first_four(detector.roi_heads.box_head, cells)])


@torch.no_grad()
def test_torchvision_plain_resnet_is_the_body(resnet50, export50):
    body = {
        name.removeprefix('backbone.body.'): value
        for name, value in to_torchvision(export50, {}).state_dict.items()
        if name.startswith('backbone.body.')
    }
    model = torchvision.models.resnet50(weights=None)
    missing, unexpected = model.load_state_dict(body, strict=False)
    assert (sorted(missing), unexpected) == (['fc.bias', 'fc.weight'], [])
    model.fc = nn.Identity()
    same([resnet50.backbone(IMAGE)[-1].mean((2, 3))], [model.eval()(IMAGE)])


@torch.no_grad()
def test_group_norm_and_other_widths(group_norm_config):
    """mmcv calls a GroupNorm ``gn``, torchvision calls whatever normalises ``bn``."""
    group_norm_config['backbone'].update(stem_channels=64, base_channels=64)
    group_norm_config['neck'].update(in_channels=[64, 128, 256, 512])
    ours = randomise(MODELS.build(group_norm_config))
    group_norm = partial(nn.GroupNorm, 4)
    body = torchvision.models.resnet18(weights=None, norm_layer=group_norm)
    body = detection.backbone_utils.BackboneWithFPN(
        body,
        {f'layer{i + 1}': str(i) for i in range(4)},
        [64, 128, 256, 512],
        8,
        norm_layer=group_norm,
    )
    head = detection.faster_rcnn.FastRCNNConvFCHead((8, 7, 7), [8] * 4, [16], group_norm)
    detector = detection.FasterRCNN(
        body, box_head=head, box_predictor=detection.faster_rcnn.FastRCNNPredictor(16, 2)
    ).eval()
    weights = to_torchvision(to_mmdet(ours.state_dict()), {}).state_dict
    assert detector.load_state_dict(weights, strict=False).unexpected_keys == []
    same(ours.extract_feat(IMAGE), list(detector.backbone(IMAGE).values())[:4])
    cells = torch.randn(3, 8, 7, 7)
    same([ours.neck.projector.convs(cells)], [first_four(head, cells)])
