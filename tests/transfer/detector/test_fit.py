"""Weights under the names of a detector: the right level, every stage, nothing in a wrong place."""

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.runner.checkpoint import _load_checkpoint_to_model

from conftest import build_detector, tiny_detector
from mcl_mm.transfer import fit_to_detector, to_mmdet
from mcl_mm.transfer.detector.fit import level_shift


def features(model):
    with torch.no_grad():
        return model.extract_feat(torch.randn(1, 3, 64, 96, generator=torch.manual_seed(1)))


RETINANET = 'retinanet/retinanet_r50_fpn_1x_coco.py'
ATSS = 'atss/atss_r50_fpn_1x_coco.py'
FASTER_RCNN = 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
CASCADE_RCNN = 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'


@pytest.mark.parametrize(('name', 'extra_level_by_name'), [(RETINANET, False), (ATSS, True)])
def test_a_pyramid_from_p3_gets_the_levels_it_computes(pretrained, name, extra_level_by_name):
    weights = to_mmdet(pretrained.state_dict())
    ours = features(pretrained)[1:]
    model = build_detector(tiny_detector(name).model)
    fitted = fit_to_detector(weights, model)
    _load_checkpoint_to_model(model, dict(state_dict=fitted))
    torch.testing.assert_close(features(model)[:3], ours, rtol=0, atol=0)
    # P6 and P7 start as the config says, and no level below P3 is offered.
    levels = {'.'.join(key.split('.')[:3]) for key in fitted if key.startswith('neck.')}
    assert levels == {
        f'neck.{part}.{number}' for part in ('lateral_convs', 'fpn_convs') for number in range(3)
    }

    plain = build_detector(tiny_detector(name).model)
    own = plain.state_dict()
    by_name = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    assert ('neck.fpn_convs.3.conv.weight' in by_name) == extra_level_by_name  # our P5 in their P6
    _load_checkpoint_to_model(plain, dict(state_dict=by_name))
    assert all(not torch.allclose(a, b) for a, b in zip(features(plain)[:3], ours))


def test_a_pyramid_from_p2_keeps_its_names(pretrained):
    weights = to_mmdet(pretrained.state_dict())
    model = build_detector(tiny_detector(FASTER_RCNN).model)
    assert fit_to_detector(weights, model) == weights
    _load_checkpoint_to_model(model, dict(state_dict=weights))
    torch.testing.assert_close(features(model)[:4], features(pretrained), rtol=0, atol=0)


def test_every_stage_of_a_cascade_gets_the_box_convs(pretrained):
    weights = to_mmdet(pretrained.state_dict())
    model = build_detector(tiny_detector(CASCADE_RCNN).model)
    _load_checkpoint_to_model(model, dict(state_dict=fit_to_detector(weights, model)))
    cells = torch.randn(4, 8, 7, 7)
    with torch.no_grad():
        expected = pretrained.neck.projector.convs(cells)
        for head in model.roi_head.bbox_head:
            result = cells
            for conv in head.shared_convs:
                result = conv(result)
            torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_stages_without_room_leave_the_convs_in_the_report(pretrained):
    """Names without a place stay, so that whoever compares names can tell."""
    weights = to_mmdet(pretrained.state_dict())
    config = tiny_detector(CASCADE_RCNN).model
    for head in config.roi_head.bbox_head:
        head.type = 'Shared2FCBBoxHead'
    fitted = fit_to_detector(weights, build_detector(config))
    assert 'roi_head.bbox_head.shared_convs.0.conv.weight' in fitted


def test_an_fpn_among_several_necks_is_found(pretrained):
    weights = to_mmdet(pretrained.state_dict())
    config = tiny_detector(ATSS).model
    config.neck = [config.neck, dict(type='BFP', in_channels=8, num_levels=5)]
    model = build_detector(config)
    fitted = fit_to_detector(weights, model)
    _load_checkpoint_to_model(model, dict(state_dict=fitted))
    inputs = model.backbone(torch.randn(1, 3, 64, 64))
    with torch.no_grad():
        ours = pretrained.neck.fpn(inputs)[1:]
        torch.testing.assert_close(model.neck[0](inputs)[:3], ours, rtol=0, atol=0)


def test_pafpn_takes_laterals_and_outputs_of_its_levels(pretrained):
    weights = to_mmdet(pretrained.state_dict())
    config = tiny_detector(ATSS).model
    config.neck.type = 'PAFPN'
    model = build_detector(config)
    fitted = fit_to_detector(weights, model)
    for number in range(3):
        for part in ('lateral_convs', 'fpn_convs'):
            name = f'neck.{part}.{{}}.conv.weight'
            assert torch.equal(fitted[name.format(number)], weights[name.format(number + 1)])
    assert 'neck.pafpn_convs.0.conv.weight' in model.state_dict()
    assert 'neck.pafpn_convs.0.conv.weight' not in fitted


def test_a_neck_that_is_no_fpn_is_left_to_the_names(pretrained):
    weights = to_mmdet(pretrained.state_dict())
    config = tiny_detector(ATSS).model
    config.neck = dict(
        type='ChannelMapper', in_channels=[8, 16, 32, 64], out_channels=8, num_outs=5
    )
    assert fit_to_detector(weights, build_detector(config)) == weights


def test_a_detectors_own_checkpoint_is_left_alone():
    for name in (RETINANET, CASCADE_RCNN):
        model = build_detector(tiny_detector(name).model)
        weights = model.state_dict()
        assert fit_to_detector(weights, model) == weights


def test_a_detector_from_p3_starts_one_from_p2():
    """Levels move up as well; heads keep their names."""
    weights = build_detector(tiny_detector(RETINANET).model).state_dict()
    fitted = fit_to_detector(weights, build_detector(tiny_detector(FASTER_RCNN).model))
    for number in range(3):
        for part in ('lateral_convs', 'fpn_convs'):
            name = f'neck.{part}.{{}}.bn.weight'
            assert fitted[name.format(number + 1)] is weights[name.format(number)]
    assert not [name for name in fitted if name.startswith('neck.fpn_convs.0')]
    assert fitted['bbox_head.retina_cls.weight'] is weights['bbox_head.retina_cls.weight']


def test_extra_levels_keep_their_distance_to_the_top():
    """From four levels and P6 to three levels and P6: P6 stays P6."""
    config = tiny_detector(ATSS).model
    config.neck.start_level = 0
    file = build_detector(config).state_dict()
    model = build_detector(tiny_detector(ATSS).model)
    fitted = fit_to_detector(file, model)
    assert fitted['neck.fpn_convs.3.conv.weight'] is file['neck.fpn_convs.4.conv.weight']
    assert fitted['neck.fpn_convs.2.conv.weight'] is file['neck.fpn_convs.3.conv.weight']


def test_a_wrapped_detector(pretrained, free_port):
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{free_port}', rank=0, world_size=1
    )
    try:
        model = build_detector(tiny_detector(RETINANET).model)
        weights = to_mmdet(pretrained.state_dict())
        expected = fit_to_detector(weights, model)
        fitted = fit_to_detector(weights, MMDistributedDataParallel(model))
        assert list(fitted) == list(expected)
        assert all(fitted[name] is expected[name] for name in expected)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('theirs', 'ours', 'lowest', 'shift'),
    [
        ([256, 512, 1024, 2048], [256, 512, 1024, 2048], 0, 0),
        ([256, 512, 1024, 2048], [512, 1024, 2048], 1, 1),
        ([256, 512, 1024, 2048], [512, 1024], 1, 1),
        ([256, 512, 1024, 2048], [512, 1024, 2048], 0, 1),  # channels outweigh what is configured
        ([512, 1024, 2048], [256, 512, 1024, 2048], 0, -1),
        ([768] * 4, [768] * 3, 1, 1),  # a plain transformer: all stages are of one width
        ([768] * 4, [768] * 3, 0, 0),
        ([768] * 3, [768] * 3, 1, 0),
        ([64, 128, 256, 512], [256, 512, 1024, 2048], 0, None),  # another backbone
        ([64, 128, 256, 512], [512, 1024, 2048], 1, None),
    ],
)
def test_level_shift(theirs, ours, lowest, shift):
    assert level_shift(theirs, ours, lowest) == shift
