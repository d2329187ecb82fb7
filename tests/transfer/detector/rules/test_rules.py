"""The rule book: each trap alone in an otherwise clean config, and its cure."""

import copy
import inspect
import re

import pytest
import test_backbone
import test_channel_rules
import test_data
import test_inputs
from mmengine.config import Config
from mmengine.hub import get_config

from conftest import ROOT, build_detector, tiny_detector
from mcl_mm.transfer import diagnose
from mcl_mm.transfer.detector.finding import curable
from mcl_mm.transfer.detector.settings import carried_parts
from tiny_detectors import FASTER_RCNN, change, deeper, examine, follow, ids


def change_neck(cfg):
    del cfg.model.neck.norm_cfg


def change_box_norm(cfg):
    del cfg.model.roi_head.bbox_head.norm_cfg


def change_box_head(cfg):
    cfg.model.roi_head.bbox_head.type = 'Shared2FCBBoxHead'


def change_backbone(**settings):
    return lambda cfg: cfg.model.backbone.update(settings)


def change_input(**settings):
    return lambda cfg: cfg.model.data_preprocessor.update(settings)


def keep_scheduler(index):
    def keep(cfg):
        cfg.param_scheduler = [cfg.param_scheduler[index]]

    return keep


# A trap, what makes it, and words of the finding.
TRAPS = [
    ('frozen-stages', change_backbone(frozen_stages=1), 'first conv1.weight'),
    ('frozen-norm', change_backbone(norm_cfg=dict(type='BN', requires_grad=False)), 'frozen'),
    ('norm-eval', change_backbone(norm_eval=True), 'statistics of pre-training'),
    ('bn-small-batch', change('sync_bn', None), 'sees 2 images'),
    ('other-input', change_input(bgr_to_rgb=False), 'BGR'),
    ('other-input', change_input(mean=[0.0, 0.0, 0.0]), r'mean \[0.0, 0.0, 0.0\]'),
    ('other-input', change_input(std=[1.0, 1.0, 1.0]), r'std \[1.0, 1.0, 1.0\]'),
    ('other-input', change_input(mean=None, std=None), 'mean None'),
    ('resnet-variant', change_backbone(style='caffe'), "style 'caffe' and not 'pytorch'"),
    ('missing-norm', change_neck, 'follows every conv of the pyramid, and here none'),
    ('missing-norm', change_box_norm, "follows each of the box head's convs"),
    ('no-box-convs', change_box_head, 'no place for the four convs'),
    ('other-pyramid', change('model.neck.act_cfg', dict(type='ReLU')), 'has no act_cfg'),
    ('other-box-convs', change('model.roi_head.bbox_head.conv_cfg', dict(type='ConvWS')),
     'are plain ones'),
    ('second-source',
     change_backbone(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
     'backbone also starts from torchvision://resnet50'),
    ('lr-not-scaled', change('train_dataloader.batch_size', 8),
     'for 16 images per step and this run has 64: it is 0.25 times'),
    ('lr-far', change('optim_wrapper.optimizer.lr', 0.2), '10 times that of the 1x'),
    ('no-warmup', keep_scheduler(1), 'starts at its full height'),
    ('no-decay', keep_scheduler(0), 'never lowered'),
    ('no-decay', change('param_scheduler.1.milestones', [12, 16]), 'never lowered'),
    ('few-epochs', change('train_cfg.max_epochs', 9), 'takes 9 of the 12 epochs'),
]  # fmt: skip


@pytest.mark.parametrize(('trap', 'spoil', 'says'), TRAPS)
def test_each_trap_is_seen_alone(export, trap, spoil, says):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    spoil(cfg)
    diagnosis = examine(cfg, export)
    assert ids(diagnosis.traps) == [trap]
    assert diagnosis.errors == []
    assert re.search(says, diagnosis.traps[0].text)
    assert f'[{trap}]' in diagnosis.text()
    by_changes = copy.deepcopy(cfg)
    assert examine(follow(cfg, diagnosis.traps[0].fix), export).traps == []
    if diagnosis.traps[0].changes:  # what adapt writes cures as well
        by_changes.merge_from_dict({c.path: c.value for c in diagnosis.traps[0].changes})
        assert examine(by_changes, export).traps == []


def test_what_the_config_does_not_tell_is_not_judged(export):
    model = build_detector(deeper(tiny_detector(FASTER_RCNN)).model)
    assert diagnose(model, export, Config()).traps == []


def test_what_the_file_does_not_tell_is_not_judged(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.backbone.style = 'caffe'
    cfg.model.data_preprocessor.bgr_to_rgb = False
    for meta in ({}, dict(input='RGB, mean [0], std [1]', backbone=None), dict(input=dict())):
        assert examine(cfg, dict(export, meta=meta)).traps == []


def test_heads_of_another_kind_are_no_trap(export):
    """Sparse R-CNN's heads attend; there is no box head with convs to exchange them for."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    sparse = get_config('mmdet::sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py').model
    sparse.backbone, sparse.neck = cfg.model.backbone, cfg.model.neck
    sparse.neck.out_channels = 8
    cfg.model = sparse
    diagnosis = examine(cfg, export)
    assert diagnosis.errors == diagnosis.traps == []
    assert 'this detector has no such layers' in diagnosis.notes[0]


def test_the_line_of_every_rule_is_followed():
    """A new rule needs a case above, or a test of its own that follows its line."""
    elsewhere = {
        'mm-sync-bn': test_backbone.test_mmcvs_synchronised_norm_in_one_process,
        'other-region-stage': test_backbone.test_the_stage_of_a_c4_detector_is_cured,
        'other-classes': test_data.test_boxes_of_classes_that_the_data_set_does_not_know,
        'other-value-range': (
            test_inputs.test_values_of_more_than_8_bits_are_read_with_the_range_of_pretraining
        ),
        'other-channels': test_channel_rules.test_each_way_to_other_images_is_seen_alone_and_cured,
    }
    assert {trap for trap, *_ in TRAPS} | set(elsewhere) == found_in('rules/*.py')
    assert all('follow(' in inspect.getsource(test) for test in elsewhere.values())


def found_in(*patterns):
    """Ids of the findings that source files make."""
    folder = ROOT / 'mcl_mm/transfer/detector'
    source = ''.join(p.read_text() for pattern in patterns for p in folder.glob(pattern))
    return set(re.findall(r"(?:Finding|curable)\(\s*'([a-z-]+)'", source))


def test_every_finding_is_documented():
    documented = re.findall(r'^\| `([a-z-]+)` \|', (ROOT / 'docs/doctor.md').read_text(), re.M)
    found = found_in('judge.py', 'doctor.py', 'rules/*.py')
    json_keys = {'schema', 'ok', 'parts', 'total', 'left_out', 'block', 'notes'}
    assert found == set(documented) - json_keys


def test_types_that_are_classes(export):
    """As in configs of MMEngine's newer style."""
    from mmengine.optim import LinearLR, MultiStepLR
    from torch.optim import SGD

    from mcl_mm.engine import TransferHook

    cfg = deeper(tiny_detector(FASTER_RCNN))
    classes = dict(LinearLR=LinearLR, MultiStepLR=MultiStepLR)
    for scheduler in cfg.param_scheduler:
        scheduler['type'] = classes[scheduler['type']]
    cfg.optim_wrapper.optimizer['type'] = SGD
    cfg.custom_hooks = [dict(type=TransferHook, parts=('backbone',))]
    assert examine(cfg, export).traps == []
    assert carried_parts(cfg) == ('backbone',)
    cfg.param_scheduler = cfg.param_scheduler[1:]
    cfg.optim_wrapper.optimizer['lr'] *= 100
    assert {'lr-far', 'no-warmup'} <= set(ids(examine(cfg, export).traps))


def test_settings_inside_lists_are_a_new_list():
    """A config cannot reach into a list of the one it inherits from; what is beside them stays."""
    norm = dict(type='MMSyncBN', eps=0.1)
    neck = [dict(type='FPN', norm_cfg=norm), dict(type='BFP', norm_cfg=norm)]
    cfg = Config(dict(model=dict(neck=neck, bbox_head=None, act_cfg=None)))
    settings = {
        'model.neck.0.norm_cfg.type': 'SyncBN',
        'model.neck.1.norm_cfg': dict(type='GN', num_groups=2),
        'model.bbox_head.norm_cfg.type': 'BN',
        'model.act_cfg': dict(type='ReLU'),
    }
    cured = follow(cfg, curable('a', 'b', settings, cfg).fix)
    assert cured.model.to_dict() == dict(
        neck=[
            dict(type='FPN', norm_cfg=dict(type='SyncBN', eps=0.1)),
            dict(type='BFP', norm_cfg=dict(type='GN', num_groups=2)),
        ],
        bbox_head=dict(norm_cfg=dict(type='BN')),
        act_cfg=dict(type='ReLU'),
    )
