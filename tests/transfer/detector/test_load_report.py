"""Weights out of pre-training, into detectors, and nothing lost on the way."""

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from conftest import ROOT, build_detector, tiny_detector
from mcl_mm.registry import MODELS
from mcl_mm.transfer import check_load, check_whole, to_mmdet


@pytest.fixture(scope='module')
def pretrained():
    """The pre-training model of the paper, ResNet-50, with BN statistics that are not trivial."""
    model = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(model)
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


def detector(name):
    """A detector from a config, with random weights."""
    # MMEngine resolves 'mmdet::' in _base_ only.
    cfg = Config.fromfile(ROOT / name) if name.startswith('configs') else get_config(name)
    cfg.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(cfg.model)


def test_matching_detector_uses_every_key_and_computes_the_same_features(pretrained):
    weights = to_mmdet(pretrained.state_dict())
    model = detector('configs/transfer/mask-rcnn_r50_fpn_mcl_1x_coco.py').eval()
    report = check_load(model, weights)
    assert not report.unexpected
    assert not report.mismatched
    for part in ('backbone.', 'neck.', 'roi_head.bbox_head.shared_convs.'):
        assert any(key.startswith(part) for key in report.loaded)
        assert not [key for key in report.missing if key.startswith(part)]
    _load_checkpoint_to_model(model, dict(state_dict=weights))

    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        ours = pretrained.extract_feat(image)
        theirs = model.extract_feat(image)
        torch.testing.assert_close(ours, theirs[:4], rtol=0, atol=0)
        cells = torch.randn(4, 256, 7, 7)
        features = cells
        for conv in model.roi_head.bbox_head.shared_convs:
            features = conv(features)
        torch.testing.assert_close(pretrained.neck.projector.convs(cells), features, rtol=0, atol=0)


def test_stock_mask_rcnn_takes_the_backbone_and_what_fits(pretrained):
    weights = to_mmdet(pretrained.state_dict())
    model = detector('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py').eval()
    report = check_load(model, weights)
    backbone = {key for key in model.state_dict() if key.startswith('backbone.')}
    assert backbone <= set(report.loaded)
    assert {f'neck.fpn_convs.{i}.conv.weight' for i in range(4)} <= set(report.loaded)
    _load_checkpoint_to_model(model, dict(state_dict=weights))
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(pretrained.backbone(image), model.backbone(image))


def test_only_what_a_detector_uses_is_exported(tiny_config, build):
    model = build(tiny_config)
    weights = to_mmdet(model.state_dict())
    assert {key.split('.')[0] for key in weights} == {'backbone', 'neck', 'roi_head'}
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(weights[f'backbone.{key}'], value)
    for key, value in model.neck.fpn.state_dict().items():
        assert torch.equal(weights[f'neck.{key}'], value)
    for key, value in model.neck.projector.convs.state_dict().items():
        assert torch.equal(weights[f'roi_head.bbox_head.shared_convs.{key}'], value)
    parts = [model.backbone, model.neck.fpn, model.neck.projector.convs]
    assert len(weights) == sum(len(part.state_dict()) for part in parts)


def test_export_refuses_other_models():
    with pytest.raises(ValueError, match=r'not an mcl_mm .*backbone\.,.*It holds: fc, layer1'):
        to_mmdet({'layer1.0.conv1.weight': torch.ones(1), 'fc.weight': torch.ones(1)})


def test_neck_of_other_width_is_refused(tiny_config, build):
    weights = to_mmdet(build(tiny_config).state_dict())
    tiny_config['neck'].update(out_channels=12)
    other = build(tiny_config)
    renamed = torch.nn.Module()
    renamed.backbone, renamed.neck = other.backbone, other.neck.fpn
    with pytest.raises(ValueError, match=r'another shape.*neck\.lateral_convs.*\(8.*\(12'):
        check_load(renamed, weights)


def test_other_backbone_is_refused(tiny_config, build):
    weights = to_mmdet(build(tiny_config).state_dict())
    tiny_config['backbone'].update(depth=34)
    other = torch.nn.Module()
    other.backbone = build(tiny_config).backbone
    with pytest.raises(ValueError, match='the backbones differ'):
        check_load(other, weights)


def test_weights_of_something_else_are_refused():
    model = torch.nn.Module()
    model.body = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"none of these weights fits.*'fc'.*'body'"):
        check_load(model, {'fc.weight': torch.ones(2, 2)})


def test_unexported_checkpoint_is_refused(tiny_config, build):
    model = torch.nn.Module()
    model.backbone = build(tiny_config).backbone
    with pytest.raises(ValueError, match='mcl-mm export '):
        check_load(model, build(tiny_config).state_dict())


def test_a_whole_checkpoint_leaves_nothing_at_random():
    detector = build_detector(tiny_detector('retinanet/retinanet_r50_fpn_1x_coco.py').model)
    weights = detector.state_dict()
    check_whole(detector, weights)
    name = 'bbox_head.retina_cls.weight'
    with pytest.raises(ValueError, match=f'1 weights .*another shape there, first {name}'):
        check_whole(detector, dict(weights, **{name: weights[name][:9]}))
    with pytest.raises(ValueError, match=f'1 weights .*missing.*, first {name}'):
        check_whole(detector, {k: v for k, v in weights.items() if k != name})
