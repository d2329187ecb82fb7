"""Schedules that differ from the published ones are named, and good ones are not."""

import pytest
from mmengine.hub import get_config

from conftest import build_detector, tiny_detector
from mcl_mm.transfer import diagnose
from mcl_mm.transfer.detector.examine import planned_processes
from mcl_mm.transfer.detector.rules import Case, schedule
from mcl_mm.transfer.detector.settings import build
from tiny_detectors import FASTER_RCNN, change, deeper, examine, ids


@pytest.mark.parametrize(
    'harmless',
    [
        change('optim_wrapper.optimizer.lr', 0.01),  # as RetinaNet and PASCAL VOC
        change('auto_scale_lr.enable', True),
        change('param_scheduler.1', dict(_delete_=True, type='CosineAnnealingLR', T_max=12)),
        change('param_scheduler.1', dict(_delete_=True, type='LinearLR', begin=6, end_factor=0.1)),
    ],
)
def test_other_good_schedules_are_no_trap(export, harmless):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    harmless(cfg)
    assert examine(cfg, export).traps == []


def test_repeated_data_counts_as_epochs(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_cfg.max_epochs, cfg.param_scheduler[1].milestones = 4, [3]
    assert ids(examine(cfg, export).traps) == ['few-epochs']
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=dataset)
    assert examine(cfg, export).traps == []


@pytest.mark.parametrize('folder', ['data/objects365/', 'data/OpenImages/', 'data/open_images_v6/'])
def test_a_set_larger_than_coco_takes_fewer_epochs(export, folder):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_cfg.max_epochs, cfg.param_scheduler[1].milestones = 3, [2]
    assert ids(examine(cfg, export).traps) == ['few-epochs']
    cfg.train_dataloader.dataset.data_root = folder
    assert examine(cfg, export).traps == []


def test_the_cure_for_no_decay_is_in_the_units_of_the_run(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=24000)
    cfg.param_scheduler[1] = dict(type='MultiStepLR', by_epoch=False, milestones=[24000])
    (trap,) = examine(cfg, export).traps
    assert 'by_epoch=False, milestones=[16000, 22000], gamma=0.1, end=24000' in trap.fix
    cfg.merge_from_dict({'param_scheduler.1.milestones': [16000, 22000]})
    assert examine(cfg, export).traps == []


def test_a_learning_rate_scaled_by_the_run_is_right_at_any_batch(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_dataloader.batch_size = 64
    assert ids(examine(cfg, export).traps) == ['lr-not-scaled']
    cfg.auto_scale_lr.enable = True
    assert examine(cfg, export).traps == []


def test_accumulated_steps_count_into_the_batch(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_dataloader.batch_size = 8
    cfg.optim_wrapper.accumulative_counts = 2
    assert examine(cfg, export, processes=1).traps == []


@pytest.mark.parametrize(
    ('optimizer', 'traps'), [('SGD', ['no-warmup', 'no-decay']), ('AdamW', ['no-decay'])]
)
def test_no_schedule_at_all(export, optimizer, traps):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.param_scheduler = None
    cfg.optim_wrapper.optimizer.type = optimizer
    assert ids(examine(cfg, export).traps) == traps


@pytest.mark.parametrize(
    'name',
    [
        'yolox/yolox_s_8xb8-300e_coco.py',
        'yolo/yolov3_d53_8xb8-ms-608-273e_coco.py',
        'ssd/ssd300_coco.py',
        'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
        'centernet/centernet_r18_8xb16-crop512-140e_coco.py',
        'retinanet/retinanet_r18_fpn_1xb8-1x_coco.py',
        'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712.py',
    ],
)
def test_a_published_schedule_gets_no_advice(name):
    """And ten times its rate does."""
    cfg = get_config(f'mmdet::{name}')
    model = build(cfg.model, 'mmdet')
    case = Case(cfg, model, processes=planned_processes(cfg))
    assert [rule(case) for rule in schedule.RULES if rule(case)] == []
    cfg.optim_wrapper.optimizer.lr *= 100
    assert 'lr-far' in [finding.id for rule in schedule.RULES if (finding := rule(case))]


def test_detectors_of_other_packages_are_judged_by_their_own_batch(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.optim_wrapper.optimizer.lr = 0.5
    model = build_detector(cfg.model)
    model.__class__ = type('Foreign', (type(model),), dict(__module__='elsewhere'))
    assert diagnose(model, export, cfg, processes=8).traps == []
    cfg.train_dataloader.batch_size = 16
    (trap,) = diagnose(model, export, cfg, processes=8).traps
    assert trap.id == 'lr-not-scaled'
