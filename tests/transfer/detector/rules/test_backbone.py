"""What a backbone and its norms do to the weights, by the images of a batch."""

import pytest
import torch
from mmengine.hub import get_config
from torch import nn

from conftest import build_detector, tiny_detector
from mcl_mm.transfer import diagnose
from mcl_mm.transfer.detector.rules import Case, find
from mcl_mm.transfer.detector.rules.backbone import other_region_stage, processes_in_statistic
from mcl_mm.transfer.detector.settings import build
from tiny_detectors import FASTER_RCNN, META, deeper, examine, follow, ids


def test_one_process_with_two_images(export):
    """Nothing to synchronise: more images are the cure."""
    diagnosis = examine(deeper(tiny_detector(FASTER_RCNN)), export, processes=1)
    assert ids(diagnosis.traps) == ['bn-small-batch', 'lr-not-scaled']
    assert 'batch_size=8' in diagnosis.traps[0].fix


def test_synchronised_layers_see_all_images(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.sync_bn = None
    norm_cfg = dict(type='SyncBN', requires_grad=True)
    cfg.model.backbone.norm_cfg = cfg.model.neck.norm_cfg = norm_cfg
    assert ids(examine(cfg, export).traps) == ['bn-small-batch']  # the box head's are left
    cfg.model.roi_head.bbox_head.norm_cfg = norm_cfg
    assert examine(cfg, export).traps == []


@pytest.mark.parametrize(
    'kinds',
    [
        (nn.BatchNorm2d, nn.SyncBatchNorm),
        ('torch.nn.modules.batchnorm.BatchNorm2d', 'torch.nn.modules.batchnorm.SyncBatchNorm'),
    ],
)
def test_norms_whose_types_are_classes(export, kinds):
    """As in configs of MMEngine's newer style, and in the texts that they are written out as."""
    plain, synchronised = (dict(type=kind, requires_grad=True) for kind in kinds)
    cfg = deeper(tiny_detector(FASTER_RCNN))
    backbone, neck, head = cfg.model.backbone, cfg.model.neck, cfg.model.roi_head.bbox_head
    backbone.norm_cfg = neck.norm_cfg = head.norm_cfg = plain
    assert examine(cfg, export).traps == []
    cfg.sync_bn = None
    case = Case(cfg, build_detector(cfg.model), set(export['state_dict']), META)
    assert [(f.id, f.changes[0].path, f.changes[0].value) for f in find(case)] == [
        ('bn-small-batch', 'model.backbone.norm_cfg', dict(type='SyncBN', requires_grad=True)),
        ('missing-norm', 'model.neck.norm_cfg', dict(type='SyncBN', requires_grad=True)),
        (
            'missing-norm',
            'model.roi_head.bbox_head.norm_cfg',
            dict(type='SyncBN', requires_grad=True),
        ),
    ]
    backbone.norm_cfg = neck.norm_cfg = head.norm_cfg = synchronised
    assert find(case) == []
    neck.norm_cfg = dict(synchronised, requires_grad=False)
    assert ids(find(case)) == ['missing-norm']


@pytest.mark.parametrize(
    ('group', 'processes', 'seen'),
    [(2, 8, 4), ('machine', 2, 4), (4, 8, None), ('machine', 16, None), ('all', 8, None)],
)
def test_groups_see_their_own_images(export, group, processes, seen):
    """Two images a process; 'machine' is taken as 8 GPUs, where as many train."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.sync_bn_group = group
    traps = [t for t in examine(cfg, export, processes=processes).traps if t.id == 'bn-small-batch']
    assert len(traps) == (seen is not None)
    if seen:
        assert f'sees {seen} images' in traps[0].text
    if group == 2:
        cfg = follow(cfg, traps[0].fix)
        assert cfg.sync_bn_group == 'all'
        assert examine(cfg, export, processes=processes).traps == []


def test_a_run_that_has_begun_knows_its_group(export, tmp_path):
    """Its layers tell, whatever the config would mean on another machine."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.sync_bn_group = 'machine'
    store = f'file://{tmp_path}/store'
    torch.distributed.init_process_group('gloo', init_method=store, rank=0, world_size=1)
    try:
        layer = nn.SyncBatchNorm(1, process_group=torch.distributed.new_group([0]))
        case = Case(cfg, layer, processes=8)
        assert processes_in_statistic(case, layer) == 1
        assert processes_in_statistic(case, nn.SyncBatchNorm(1)) == 8
    finally:
        torch.distributed.destroy_process_group()


def test_a_resnet_v1d_export_wants_a_resnet_v1d(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    meta = dict(META, backbone=dict(type='mmpretrain.ResNetV1d', depth=50))
    (trap,) = examine(cfg, dict(export, meta=meta)).traps
    assert trap.fix == 'model = dict(backbone=dict(deep_stem=True, avg_down=True))'


def test_basic_blocks_know_no_style():
    cfg = deeper(tiny_detector(FASTER_RCNN), 18)
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    cfg.model.backbone.style = 'caffe'
    detector = build_detector(cfg.model)
    meta = dict(META, backbone=dict(type='mmpretrain.ResNet', depth=18))
    checkpoint = dict(state_dict=detector.state_dict(), meta=meta)
    assert diagnose(detector, checkpoint, cfg, processes=8).traps == []


def test_the_stage_of_a_c4_detector_is_cured():
    cfg = get_config('mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py')
    case = Case(cfg, None, meta=META)
    finding = other_region_stage(case)
    assert finding.id == 'other-region-stage'
    assert other_region_stage(case._replace(cfg=follow(cfg, finding.fix))) is None


def test_norm_eval_without_batch_norm_does_nothing(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.backbone.update(norm_eval=True, norm_cfg=dict(type='GN', num_groups=2))
    own = build_detector(cfg.model).state_dict()
    assert 'norm-eval' not in ids(examine(cfg, dict(state_dict=own)).traps)


def test_mmcvs_synchronised_norm_in_one_process(export):
    """It cannot be built there; PyTorch's stands for it, and the config is told."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    norm = dict(type='MMSyncBN', requires_grad=True)
    cfg.model.backbone.norm_cfg = cfg.model.neck.norm_cfg = norm
    cfg.train_dataloader.batch_size = 16
    model = build(cfg.model, 'mmdet')
    (trap,) = diagnose(model, export, cfg, processes=1).traps
    assert trap.id == 'mm-sync-bn'
    assert 'mm-sync-bn' not in ids(diagnose(model, export, cfg, processes=8).traps)
    cfg = follow(cfg, trap.fix)
    assert cfg.model.neck.norm_cfg == dict(type='SyncBN', requires_grad=True)
    assert diagnose(model, export, cfg, processes=1).traps == []


def test_a_norm_without_weights_is_not_judged(export):
    """CondInst's masks have batch norm of their own, which MMDetection trains on two images."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.sync_bn = None
    sync = dict(type='SyncBN', requires_grad=True)
    cfg.model.backbone.norm_cfg = cfg.model.neck.norm_cfg = sync
    cfg.model.roi_head.bbox_head.norm_cfg = sync
    cfg.model.roi_head.bbox_head.update(num_shared_convs=4, num_cls_convs=1, type='ConvFCBBoxHead')
    model = build_detector(cfg.model)
    model.own = nn.BatchNorm2d(3)
    found = diagnose(model, export, cfg, processes=8)
    assert 'own.running_mean' in found.report.missing
    assert 'bn-small-batch' not in ids(found.traps)
