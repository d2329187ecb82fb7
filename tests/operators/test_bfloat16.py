"""Whole detectors in bfloat16 on the CPU, with the operators in their place."""

import math

import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.optim import build_optim_wrapper

from conftest import build_detector, tiny_detector
from mcl_mm.engine.cpu import CPUAmpOptimWrapper, adapt_to_cpu, operators_take_bfloat16
from tiny_detectors import deeper

SIDE = 128  # pixels
CLASSES = 3


def mask_rcnn(convolution):
    """A tiny Mask R-CNN, with deformable convolutions in its backbone or none."""
    cfg = deeper(tiny_detector('mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'))
    cfg.model.roi_head.mask_roi_extractor.out_channels = 8
    cfg.model.roi_head.mask_head.update(in_channels=8, conv_out_channels=8, num_classes=CLASSES)
    # All regions are learnt from: a random draw would differ where one proposal differs.
    cfg.model.train_cfg.rcnn.sampler.update(num=10_000, pos_fraction=1.0)
    cfg.model.test_cfg.rcnn.score_thr = 0.0  # detections, whatever random weights think of them
    if convolution:
        cfg.model.backbone.update(
            dcn=dict(type=convolution, deform_groups=2, fallback_on_stride=False),
            stage_with_dcn=(False, True, True, True),
        )
    return cfg


def take_regions(model, regions):
    """Let the second stage learn from given regions, whatever the first finds; none yet: from those it finds.

    Which ones count as objects jumps where one moves a little.
    """
    own = model.rpn_head.loss_and_predict

    def loss_and_predict(*inputs, **settings):
        losses, found = own(*inputs, **settings)
        if not regions:
            regions.extend(region.clone() for region in found)
        kind = found[0].bboxes.dtype
        found = [region.clone() for region in regions]  # the second stage takes them apart
        for region in found:
            region.bboxes = region.bboxes.to(kind)
        return losses, found

    model.rpn_head.loss_and_predict = loss_and_predict


def step_and_inference(cfg, dtype, regions):
    """One training step and one inference in a precision that the command line asks for.

    Returns:
        tuple[dict, InstanceData]: The losses, and what was found in the first image.
    """
    cfg.launcher = 'none'
    cfg.optim_wrapper = dict(type='AmpOptimWrapper', optimizer=dict(type='SGD', lr=1e-6))
    adapt_to_cpu(cfg, {'optim_wrapper.dtype': dtype})
    torch.manual_seed(0)
    model = build_detector(cfg.model).train()
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = (
                1.0  # inference takes the statistics of this step, not the initial ones
            )
    with torch.no_grad():  # offsets are zero at first, which is no test of deformation
        for name, parameter in model.named_parameters():
            if 'conv2_offset' in name or 'conv2.conv_offset' in name:
                parameter.normal_(std=0.1)
    take_regions(model, regions)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert isinstance(wrapper, CPUAmpOptimWrapper) == (dtype == 'bfloat16')
    batch = dict(
        image_shapes=[(3, SIDE, SIDE)] * 2, num_items=[3, 5], num_classes=CLASSES, with_mask=True
    )
    losses = model.train_step(demo_mm_inputs(**batch), wrapper)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    model.eval()
    with torch.no_grad(), wrapper.optim_context(model):
        found = model.test_step(demo_mm_inputs(**batch))
    return {name: value.item() for name, value in losses.items()}, found[0].pred_instances


@pytest.mark.skipif(
    not operators_take_bfloat16(), reason='the operators compiled with mmcv take no bfloat16'
)
@pytest.mark.parametrize('convolution', [None, 'DCN', 'DCNv2'])
def test_losses_are_near_to_those_in_float32(convolution):
    regions = []
    expected, _ = step_and_inference(mask_rcnn(convolution), 'float32', regions)
    losses, found = step_and_inference(mask_rcnn(convolution), 'bfloat16', regions)
    assert losses != expected  # or nothing was computed in bfloat16
    for name in (name for name in expected if 'loss' in name):
        assert math.isclose(losses[name], expected[name], rel_tol=0.05, abs_tol=0.02), name
    assert len(found) > 0
    assert found.bboxes.isfinite().all()
    assert found.scores.isfinite().all()
    assert found.masks.shape == (len(found), SIDE, SIDE)
