"""The rule book: each trap alone in an otherwise clean config, and its cure."""

import copy
import inspect
import json
import re

import pytest
import test_channel_rules
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from torch import nn

from conftest import ROOT, build_detector, tiny_detector
from mcl_mm.transfer import diagnose
from mcl_mm.transfer.detector.examine import carried_parts, planned_processes
from mcl_mm.transfer.detector.finding import curable
from mcl_mm.transfer.detector.rules import Case, schedule
from mcl_mm.transfer.detector.rules.backbone import other_region_stage, processes_in_statistic
from mcl_mm.transfer.detector.rules.data import check_class_numbers, check_classes_known
from mcl_mm.transfer.detector.settings import build
from tiny_detectors import FASTER_RCNN, META, deeper, examine, exported, follow, ids


@pytest.fixture(scope='module')
def export():
    """An export of the widths of ``tiny_detector``'s, whose ResNet has the blocks of a ResNet-50."""
    return exported(50)


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


def change(path, value):
    return lambda cfg: cfg.merge_from_dict({path: value})


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


def test_values_of_more_than_8_bits_are_read_with_the_range_of_pretraining(export):
    """In every pipeline, as the line says it; a range of another set is none."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    trained = dict(META, input=dict(META['input'], value_ranges=[[100.0, 4000.0]]))
    deep = dict(export, meta=trained)
    (trap,) = examine(cfg, deep).traps
    assert trap.id == 'other-value-range'
    assert 'train_dataloader, val_dataloader, test_dataloader of the detector do not' in trap.text
    cured = follow(cfg, trap.fix)
    loader = dict(type='mcl_mm.LoadAnyImage', value_range=[100.0, 4000.0])
    for name in ('train', 'val', 'test'):
        before, after = (c[f'{name}_dataloader'].dataset.pipeline for c in (cfg, cured))
        assert after == [loader, *before[1:]]
    assert examine(cured, deep).traps == []
    cured.test_dataloader.dataset.pipeline[0].value_range = [0, 255]
    (trap,) = examine(cured, deep).traps
    assert 'that test_dataloader of the detector does not' in trap.text
    assert examine(follow(cured, trap.fix), deep).traps == []


def test_8_bits_need_no_range(export):
    meta = dict(META, input=dict(META['input'], value_ranges=[]))
    assert examine(deeper(tiny_detector(FASTER_RCNN)), dict(export, meta=meta)).traps == []


def test_basic_blocks_know_no_style():
    cfg = deeper(tiny_detector(FASTER_RCNN), 18)
    cfg.model.neck.in_channels = [8, 16, 32, 64]
    cfg.model.backbone.style = 'caffe'
    detector = build_detector(cfg.model)
    meta = dict(META, backbone=dict(type='mmpretrain.ResNet', depth=18))
    checkpoint = dict(state_dict=detector.state_dict(), meta=meta)
    assert diagnose(detector, checkpoint, cfg, processes=8).traps == []


@pytest.mark.parametrize(
    ('optimizer', 'traps'), [('SGD', ['no-warmup', 'no-decay']), ('AdamW', ['no-decay'])]
)
def test_no_schedule_at_all(export, optimizer, traps):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.param_scheduler = None
    cfg.optim_wrapper.optimizer.type = optimizer
    assert ids(examine(cfg, export).traps) == traps


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


def test_the_stage_of_a_c4_detector_is_cured():
    cfg = get_config('mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py')
    case = Case(cfg, None, meta=META)
    finding = other_region_stage(case)
    assert finding.id == 'other-region-stage'
    assert other_region_stage(case._replace(cfg=follow(cfg, finding.fix))) is None


def test_the_line_of_every_rule_is_followed():
    """A new rule needs a case above, or a test of its own that follows its line."""
    elsewhere = {
        'mm-sync-bn': test_mmcvs_synchronised_norm_in_one_process,
        'other-region-stage': test_the_stage_of_a_c4_detector_is_cured,
        'other-classes': test_boxes_of_classes_that_the_data_set_does_not_know,
        'other-value-range': test_values_of_more_than_8_bits_are_read_with_the_range_of_pretraining,
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
    json_keys = {'schema', 'ok', 'parts', 'total', 'left_out', 'notes'}
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


@pytest.mark.parametrize('own', [None, dict(type='BN')])
def test_group_norm_that_the_detector_has_not(export, own):
    weights = {
        re.sub(r'^(neck\..*)\.bn\.', r'\1.gn.', name): value
        for name, value in export['state_dict'].items()
        if not (name.startswith('neck.') and re.search('running|num_batches', name))
    }
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.neck.norm_cfg = own
    found = [
        f for f in examine(cfg, dict(export, state_dict=weights)).traps if f.id == 'missing-norm'
    ]
    assert found[0].text.startswith('in the weights a norm follows every conv of the pyramid')
    assert "type='GN'" in found[0].fix


def test_norm_eval_without_batch_norm_does_nothing(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.backbone.update(norm_eval=True, norm_cfg=dict(type='GN', num_groups=2))
    own = build_detector(cfg.model).state_dict()
    assert 'norm-eval' not in ids(examine(cfg, dict(state_dict=own)).traps)


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


def test_boxes_of_classes_that_the_data_set_does_not_know(export, tmp_path):
    """COCO's names are the default; a file of other categories loses every box."""
    categories = [dict(id=i, name=name) for i, name in enumerate(('kangaroo', 'emu'))]
    (tmp_path / 'train.json').write_text(json.dumps(dict(categories=categories)))
    cfg = deeper(tiny_detector(FASTER_RCNN))
    dataset = dict(cfg.train_dataloader.dataset, data_root=str(tmp_path), ann_file='train.json')
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=1, dataset=dataset)
    (trap,) = examine(cfg, export).traps
    assert trap.id == 'other-classes'
    assert "'kangaroo', 'emu'" in trap.text
    with pytest.raises(ValueError, match='no box is left. Fix: train_dataloader = '):
        check_classes_known(cfg)
    cfg = follow(cfg, trap.fix)
    assert cfg.train_dataloader.dataset.dataset.metainfo.classes == ('kangaroo', 'emu')
    assert cfg.val_dataloader.dataset.metainfo.classes == ('kangaroo', 'emu')
    assert examine(cfg, export).traps == []
    check_classes_known(cfg)


@pytest.mark.parametrize(
    ('tested', 'said'),
    [
        (['cat', 'dog'], ''),
        (['cat', 'dog', 'unknown'], ''),
        (['dog', 'cat'], "class 0 is 'cat' .* and 'dog' in"),
        (['dog'], "class 0 is 'cat' .* and 'dog' in"),
        (['cat'], "class 1 is 'dog' .* and missing in"),
        (['cat', 'dog', 'emu'], ''),
    ],
)
def test_files_that_number_classes_differently(tmp_path, tested, said):
    cfg = tiny_detector(FASTER_RCNN)
    for name, names in dict(train=['bird', 'cat', 'dog'], val=tested).items():
        categories = [dict(id=i, name=name) for i, name in enumerate(names)]
        (tmp_path / f'{name}.json').write_text(json.dumps(dict(categories=categories)))
        cfg[f'{name}_dataloader'].dataset.update(
            data_root=str(tmp_path),
            ann_file=f'{name}.json',
            metainfo=dict(classes=('dog', 'cat', 'emu')),
        )
    if said:
        with pytest.raises(ValueError, match=f'{said} .*val.json. Give both files the same'):
            check_class_numbers(cfg, 'val_dataloader')
    else:
        check_class_numbers(cfg, 'val_dataloader')
    check_class_numbers(cfg, 'test_dataloader')  # another file, which is not there
    cfg.val_dataloader.dataset.metainfo = dict(classes=('dog', 'cat'))  # another task
    check_class_numbers(cfg, 'val_dataloader')


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


def test_group_norm_gives_way_whole(export):
    """Its number of groups would be no setting of the batch norm that takes its place."""
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.model.neck.norm_cfg = dict(type='GN', num_groups=2)
    (trap,) = [t for t in examine(cfg, export).traps if t.id == 'missing-norm']
    assert examine(follow(cfg, trap.fix), export).traps == []


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


@pytest.mark.parametrize('known', [80, 3])
def test_heads_of_the_data_sets_classes_follow_them(export, tmp_path, known):
    (tmp_path / 'train.json').write_text(json.dumps(dict(categories=[dict(id=1, name='emu')])))
    cfg = deeper(tiny_detector(FASTER_RCNN))
    cfg.train_dataloader.dataset.update(data_root=str(tmp_path), ann_file='train.json')
    cfg.model.roi_head.bbox_head.num_classes = known
    (trap,) = examine(cfg, export).traps
    cured = follow(cfg, trap.fix)
    assert cured.model.roi_head.bbox_head.num_classes == (1 if known == 80 else 3)
    assert examine(cured, export).traps == []
