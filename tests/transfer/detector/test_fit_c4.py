"""The backbone's last stage, which a detector without a pyramid (C4) has in its head of regions."""

import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from conftest import ROOT
from mcl_mm.transfer import check_load, diagnose, fit_to_detector, to_mmdet
from mcl_mm.transfer.detector.adapt import adapt, carried
from mcl_mm.transfer.detector.settings import build as build_part

STAGE = 'roi_head.shared_head.layer4.'


@pytest.fixture
def detector():
    """Faster R-CNN C4 of a ResNet-18. The stage in its head has the full width in any case."""
    model = get_config('mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py').model
    stage = dict(depth=18, style='pytorch', norm_cfg=dict(type='BN'), init_cfg=None)
    model.backbone.update(frozen_stages=-1, **stage)
    model.roi_head.shared_head.update(stage)
    model.rpn_head.update(in_channels=256, feat_channels=32)
    model.roi_head.bbox_roi_extractor.out_channels = 256
    model.roi_head.bbox_head.update(in_channels=512, num_classes=3)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(model).eval()


@pytest.fixture
def pretrained(tiny_config, build):
    """A pre-training model of that width, with BN statistics that are not trivial."""
    tiny_config['backbone'].update(stem_channels=64, base_channels=64)
    tiny_config['neck'].update(in_channels=[64, 128, 256, 512])
    model = build(tiny_config)
    generator = torch.Generator().manual_seed(0)
    for name, buffer in model.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return model.eval()


def test_the_head_computes_what_the_last_stage_did(detector, pretrained):
    weights = to_mmdet(pretrained.state_dict())
    fitted = fit_to_detector(weights, detector)
    check_load(detector, fitted)
    _load_checkpoint_to_model(detector, dict(state_dict=fitted))
    images = torch.randn(1, 3, 64, 96, generator=torch.manual_seed(1))
    with torch.no_grad():
        *_, third, fourth = pretrained.backbone(images)
        (regions,) = detector.extract_feat(images)
        torch.testing.assert_close(regions, third, rtol=0, atol=0)
        torch.testing.assert_close(detector.roi_head.shared_head(regions), fourth, rtol=0, atol=0)


def test_the_stage_is_part_of_the_backbone(detector, pretrained):
    weights = to_mmdet(pretrained.state_dict())
    backbone = {name for name in weights if name.startswith('backbone.')}
    carried = fit_to_detector(weights, detector, ('backbone',))
    assert {name.replace('roi_head.shared_head.', 'backbone.') for name in carried} == backbone
    stage = {name for name in detector.state_dict() if name.startswith(STAGE)}
    assert {name for name in carried if name.startswith(STAGE)} == stage
    assert not any(
        name.startswith(STAGE) for name in fit_to_detector(weights, detector, ('neck', 'box_head'))
    )


def test_names_of_a_c4_detector_stay(detector):
    own = detector.state_dict()
    del own['roi_head.bbox_head.fc_cls.weight']  # one of another data set
    assert fit_to_detector(own, detector) == own


@pytest.mark.parametrize('parts', [None, ('backbone',)])
def test_the_doctor_on_the_stage(detector, pretrained, parts):
    """Without the hook it would get nothing; of another size it is refused; else it loads whole."""
    weights = dict(state_dict=to_mmdet(pretrained.state_dict()))
    diagnosis = diagnose(detector, weights, Config(), parts)
    assert [error.id for error in diagnosis.errors] == ([] if parts else ['region-stage'])
    stage = {name for name in detector.state_dict() if name.startswith(STAGE)}
    assert {name for name in diagnosis.fitted if name.startswith(STAGE)} == stage
    if parts is None:
        assert f'{len(stage)} weights' in diagnosis.errors[0].text
        return
    name = 'backbone.layer4.1.conv2.weight'
    weights['state_dict'][name] = weights['state_dict'][name][:, :5]
    (error,) = diagnose(detector, weights, Config(), parts).errors
    assert error.id == 'other-shape'
    assert f'{STAGE}1.conv2.weight: (512, 5, 3, 3) in the file' in error.text


@pytest.mark.parametrize('recipe', ['mcl_r50_100e', 'mcl_r50_small'])
def test_adapt_carries_the_stage_and_pretrains_the_whole_network(recipe):
    base = 'mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py'
    found = adapt(base, str(ROOT / f'configs/{recipe}.py'), 'mcl.pth')
    cfg = found.finetune.load()
    for part in (cfg.model.backbone, cfg.model.roi_head.shared_head):
        assert part.norm_cfg == dict(type='SyncBN', requires_grad=True)
        assert (part.norm_eval, part.style, part.init_cfg) == (False, 'pytorch', None)
    assert cfg.model.backbone.frozen_stages == -1
    assert cfg.model.backbone.num_stages == 3
    assert cfg.custom_hooks == [dict(type='mcl_mm.TransferHook', parts=('backbone',))]
    assert 'whose last stage is roi_head.shared_head' in carried(cfg)
    backbone = build_part(found.pretrain.load().model.backbone, 'mcl_mm')
    assert (backbone.num_stages, tuple(backbone.out_indices)) == (4, (0, 1, 2, 3))
    weights = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    model = build_part(cfg.model, 'mmdet')
    # From a stage that strides otherwise the weights would load as well, and be spoilt.
    assert [b.conv2.stride[0] for b in model.roi_head.shared_head.layer4] == [
        b.conv2.stride[0] for b in backbone.layer4
    ]
    own = {name for name in model.state_dict() if name.startswith(('backbone.', STAGE))}
    assert set(fit_to_detector(weights, model, ('backbone',))) == own
