"""Detectors' configs: what each changes of MMDetection's, and that it runs, from an export, on its data."""

import copy
import json
import os
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

import tiny_datasets
from conftest import ROOT, TINY
from mcl_mm.cli import main
from mcl_mm.registry import MODELS
from mcl_mm.transfer import fit_to_detector, to_mmdet
from mcl_mm.transfer.detector.fit import part_to_carry

BACKBONE = {
    f'model.backbone.{key}' for key in ('norm_cfg.', 'frozen_stages', 'norm_eval', 'init_cfg')
}
NECK = {'model.neck.norm_cfg.'}
BOX = {'model.roi_head.bbox_head.type', 'model.roi_head.bbox_head.norm_cfg.'}
MASK = {'model.roi_head.mask_head.norm_cfg.'}
MULTI_SCALE = {'train_pipeline.2.', 'train_dataloader.dataset.pipeline.2.'}
RGB = {f'model.data_preprocessor.{key}' for key in ('mean', 'std', 'bgr_to_rgb')}
# Read by MMEngine, or variables of the config.
ADDED = {
    'custom_imports.',
    'custom_hooks.',
    'norm_cfg.',
    'backbone.',
    'neck.',
    'bbox_head.',
    'multi_scale.',
    'stage.',
    'lr_decay',
    'depths.',
    'rates.',
    'norms.',
}
MASK_RCNN = BACKBONE | NECK | BOX | MASK | MULTI_SCALE
FEW_LABELS = MASK_RCNN | {
    'percent', 'fold', 'work_dir', 'train_dataloader.dataset.ann_file', 'train_cfg.', 'param_scheduler.1.',
    'default_hooks.checkpoint.interval',
}  # fmt: skip

LONGER = {'train_cfg.max_epochs', 'param_scheduler.1.end', 'param_scheduler.1.milestones'}
VOC_C4, CITYSCAPES_2FC = 'pascal_voc_R_50_C4_24k_moco', 'cityscapes_R_50_FPN_24k_moco'

# Config to MMDetection's, and all keys (or beginnings of keys) it changes of that.
CONFIGS = {
    'mask-rcnn_r50_fpn_mcl_1x_coco': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', MASK_RCNN),
    'mask-rcnn_r50_fpn_mcl_2x_coco': ('mask_rcnn/mask-rcnn_r50_fpn_2x_coco', MASK_RCNN),
    'mask-rcnn_r50_fpn_mcl-2fc_1x_coco': (
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
        MASK_RCNN - BOX | {'model.roi_head.bbox_head.norm_cfg'},
    ),
    'mask-rcnn_r50_fpn_mcl-2fc_2x_coco': (
        'mask_rcnn/mask-rcnn_r50_fpn_2x_coco',
        MASK_RCNN - BOX | {'model.roi_head.bbox_head.norm_cfg'},
    ),
    'mask-rcnn_r50_fpn_mcl-backbone_1x_coco': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', MASK_RCNN),
    'mask-rcnn_r50_fpn_mcl_120e_coco-1percent': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', FEW_LABELS),
    'mask-rcnn_r50_fpn_mcl_60e_coco-5percent': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', FEW_LABELS),
    'mask-rcnn_r50_fpn_mcl_36e_coco-10percent': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', FEW_LABELS),
    'retinanet_r50_fpn_mcl_1x_coco': (
        'retinanet/retinanet_r50_fpn_1x_coco', BACKBONE | NECK | MULTI_SCALE),
    'fcos_r50_fpn_gn-head_mcl_1x_coco': (
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
        BACKBONE | NECK | MULTI_SCALE | RGB | {'model.backbone.style'},
    ),
    'faster-rcnn_r50_fpn_mcl_1x_voc0712': (
        'pascal_voc/faster-rcnn_r50_fpn_1x_voc0712', BACKBONE | NECK | BOX | {'param_scheduler.'}),
    'mask-rcnn_r50_fpn_mcl_1x_cityscapes': (
        'cityscapes/mask-rcnn_r50_fpn_1x_cityscapes',
        # MMDetection's starts without ImageNet weights as well, from a detector.
        (BACKBONE | NECK | BOX | MASK | {'load_from', 'auto_scale_lr.'}) - {'model.backbone.init_cfg'},
    ),
    'mask-rcnn_r50_fpn_mcl_sample1e-3_ms-1x_lvis-v1': (
        'lvis/mask-rcnn_r50_fpn_sample1e-3_ms-1x_lvis-v1', BACKBONE | NECK | BOX | MASK),
    'panoptic-fpn_r50_fpn_mcl_1x_coco': ('panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco', MASK_RCNN),
    # The authors' runs, by their names.
    'coco_R_50_FPN_CONV_1x_moco_wd2.5': (
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco', MASK_RCNN | {'optim_wrapper.optimizer.weight_decay'}),
    'coco_R_50_FPN_CONV_3x_moco': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', MASK_RCNN | LONGER),
    'coco_R_50_RetinaNet_2x_moco': (
        'retinanet/retinanet_r50_fpn_1x_coco', BACKBONE | NECK | MULTI_SCALE | LONGER),
    'coco_R_50_RetinaNet_3x_moco': (
        'retinanet/retinanet_r50_fpn_1x_coco', BACKBONE | NECK | MULTI_SCALE | LONGER),
    VOC_C4: (
        'pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712',
        BACKBONE | RGB | {f'model.roi_head.shared_head.{key}' for key in
                          ('type', 'norm_cfg.', 'norm_eval', 'style', 'init_cfg')}
        | {'model.backbone.style', 'train_dataloader.dataset.ignore_keys', 'train_cfg.max_iters',
           'param_scheduler.1.end', 'param_scheduler.1.milestones', 'val_evaluator.iou_thrs',
           'test_evaluator.iou_thrs'},
    ),
    CITYSCAPES_2FC: (
        'cityscapes/mask-rcnn_r50_fpn_1x_cityscapes',
        (BACKBONE | NECK | {
            'load_from', 'auto_scale_lr.', 'train_cfg.', 'param_scheduler.', 'log_processor.',
            'default_hooks.checkpoint.', 'train_dataloader.sampler.', 'train_pipeline.2.',
            'train_dataloader.dataset.dataset.pipeline.2.'}) - {'model.backbone.init_cfg'},
    ),
    # SparK's, by its name.
    'coco_R_50_FPN_CONV_1x_moco_adam': (
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
        MASK_RCNN | {'optim_wrapper.optimizer.', 'optim_wrapper.paramwise_cfg.', 'param_scheduler.'},
    ),
}  # fmt: skip


def load(name):
    return Config.fromfile(ROOT / f'configs/transfer/{name}.py')


def flatten(value, key=''):
    """Nested dicts and lists as ``{'a.0.b': value}``."""
    if isinstance(value, (dict, list, tuple)) and len(value):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        flat = {}
        for name, inner in items:
            if name != '_scope_':
                flat.update(flatten(inner, f'{key}{name}.'))
        return flat
    return {key[:-1]: value}


def box_convs(name):
    head = load(name).model.get('roi_head', {}).get('bbox_head', {})
    return head.get('type') == 'Shared4Conv1FCBBoxHead'


def test_all_are_listed():
    assert {path.stem for path in (ROOT / 'configs/transfer').glob('*.py')} == set(CONFIGS)


@pytest.mark.parametrize('name', CONFIGS)
def test_changes_only_what_it_says(name):
    base, expected = CONFIGS[name]
    theirs, ours = (flatten(cfg.to_dict()) for cfg in (get_config(f'mmdet::{base}.py'), load(name)))
    absent = object()
    changed = {
        k for k in theirs.keys() | ours.keys() if theirs.get(k, absent) != ours.get(k, absent)
    }
    unexpected = {k for k in changed if not f'{k}.'.startswith(tuple(ADDED | expected))}
    assert not unexpected
    for key in expected:
        assert any(f'{k}.'.startswith(key) for k in changed), f'{key} is not changed'


def test_multi_scale_is_640_to_800():
    pipeline = load('retinanet_r50_fpn_mcl_1x_coco').train_dataloader.dataset.pipeline
    assert pipeline[2].type == 'RandomChoiceResize'
    assert pipeline[2].keep_ratio
    assert pipeline[2].scales == [(1333, side) for side in range(640, 801, 32)]


def test_voc_only_adds_a_warm_up():
    base, _ = CONFIGS['faster-rcnn_r50_fpn_mcl_1x_voc0712']
    warm_up, *rest = load('faster-rcnn_r50_fpn_mcl_1x_voc0712').param_scheduler
    assert (warm_up.type, warm_up.begin, warm_up.end, warm_up.by_epoch) == (
        'LinearLR',
        0,
        100,
        False,
    )
    assert flatten(rest) == flatten(get_config(f'mmdet::{base}.py').param_scheduler)


@pytest.mark.parametrize(('percent', 'epochs'), [(1, 120), (5, 60), (10, 36)])
def test_few_labels(percent, epochs, monkeypatch):
    name = f'mask-rcnn_r50_fpn_mcl_{epochs}e_coco-{percent}percent'
    folders = set()
    for fold in range(1, 6):
        monkeypatch.setenv('FOLD', str(fold))
        cfg = load(name)
        assert cfg.train_dataloader.dataset.ann_file == (
            f'semi_anns/instances_train2017.{fold}@{percent}.json'
        )
        folders.add(cfg.work_dir)
    assert len(folders) == 5
    # The 1x schedule stretched: drops after 2/3 and 11/12, twelve evaluations.
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == epochs
    assert cfg.param_scheduler[1].milestones == [epochs * 8 // 12, epochs * 11 // 12]
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == epochs // 12
    # Epochs grow with the root of the missing labels, to a quarter.
    assert epochs / 12 == pytest.approx((100 / percent) ** 0.5, rel=0.25)


def test_subsets_are_called_what_configs_expect(tmp_path, monkeypatch):
    """The tool's defaults write all fifteen files."""
    tiny_datasets.write_coco(tmp_path, count=100)
    path = tmp_path / 'annotations/instances_train2017.json'
    with pytest.raises(SystemExit) as end:
        main('subsets', [str(path), str(tmp_path / 'drawn')])
    assert end.value.code is None
    wanted = set()
    for name in CONFIGS:
        if 'percent' in name:
            for fold in range(1, 6):
                monkeypatch.setenv('FOLD', str(fold))
                wanted.add(os.path.basename(load(name).train_dataloader.dataset.ann_file))
    assert wanted == {file.name for file in (tmp_path / 'drawn').iterdir()}


@pytest.fixture(scope='module')
def export():
    """Of the published pre-training model with random weights."""
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(Config.fromfile(ROOT / 'configs/mcl_r50_100e.py').model)
    return to_mmdet(model.state_dict())


@pytest.mark.parametrize('name', CONFIGS)
def test_export_of_the_published_model_fits(name, export):
    cfg = load(name)
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmdet'):
        model = MMDET_MODELS.build(cfg.model)
    own = model.state_dict()
    fitted = fit_to_detector(export, model)
    parts = ['backbone.', 'roi_head.shared_head.layer4.' if name == VOC_C4 else 'neck.']
    parts += ['roi_head.bbox_head.shared_convs.'] * box_convs(name)
    laterals, outputs = (
        (model.neck.lateral_convs, model.neck.fpn_convs) if model.with_neck else ([], [])
    )
    for part in parts:
        ours = {key for key in fitted if key.startswith(part)}
        assert ours
        assert all(fitted[key].shape == own[key].shape for key in ours)
        # Nothing of the part starts at random but the convs of pyramid levels above P5.
        above = tuple(f'neck.fpn_convs.{i}.' for i in range(len(laterals), len(outputs)))
        rest = {key for key in own if key.startswith(part)} - ours
        assert all(key.startswith(above) for key in rest)

    # The protocol: every norm synchronised but the group norm of MMDetection's own heads, all learns.
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(m, nn.SyncBatchNorm) for m in norms)
    model.train()
    assert all(m.training for m in norms)
    assert all(p.requires_grad for p in model.parameters())
    synced = {
        'backbone': 43 if name == VOC_C4 else 53,
        'neck': len(laterals) + len(outputs),
        'roi_head.shared_head': 11 * (name == VOC_C4),  # the other ten, and one more
        'roi_head.bbox_head': 4 * box_convs(name),
        'roi_head.mask_head': 4 * (name != CITYSCAPES_2FC),
    }
    modules = dict(model.named_modules())
    for part, count in synced.items():
        if part in modules:
            norms = [m for m in modules[part].modules() if isinstance(m, nn.SyncBatchNorm)]
            assert len(norms) == count
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.bgr_to_rgb
    assert preprocessor.mean == [123.675, 116.28, 103.53]
    assert preprocessor.std == [58.395, 57.12, 57.375]
    assert model.backbone.style == 'pytorch'


def shrink(value):
    """A fraction of the network and small images, in place, whatever the config."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == 'in_channels' and isinstance(inner, (list, tuple)):
                value[key] = [8, 16, 32, 64]
            elif key.endswith('_channels') and inner in (128, 256, 1024):
                value[key] = 32
        if 'score_thr' in value:  # or nothing would be found, and nothing evaluated
            value.update(score_thr=0.0, max_per_img=10)
        if value.get('type') == 'ResNet':
            value.update(depth=18, stem_channels=8, base_channels=8)
        elif value.get('type') == 'Shared4Conv1FCBBoxHead':
            value['conv_out_channels'] = 32
        elif value.get('type') == 'RepeatDataset':
            value['times'] = 1
        elif value.get('type') == 'Resize':
            value['scale'] = tiny_datasets.SIZE
        elif value.get('type') == 'RandomResize':
            value['scale'] = [tiny_datasets.SIZE, (160, 112)]
        elif value.get('type') == 'RandomChoiceResize':
            value['scales'] = [tiny_datasets.SIZE, (160, 112)]
        elif value.get('type') == 'CocoPanopticMetric':
            value['nproc'] = 1
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            shrink(inner)


def widen_c4(model, tiny):
    """The stage in its head has one width for each depth: ResNet-18's, on both sides."""
    for backbone in (model.backbone, tiny['backbone']):
        backbone.update(stem_channels=64, base_channels=64)
    tiny['neck'].update(in_channels=[64, 128, 256, 512])
    model.roi_head.shared_head.depth = 18
    model.roi_head.bbox_roi_extractor.out_channels = model.rpn_head.in_channels = 256
    model.roi_head.bbox_head.in_channels = 512
    # The stage runs on every region: few of them.
    model.train_cfg.rcnn.sampler.num = 16
    model.test_cfg.rpn.max_per_img = 20


# What a data set's own evaluation reports, and the packages it needs beside MMDetection.
DATA = {
    'voc': (tiny_datasets.write_voc, 'data/VOCdevkit', ['pascal_voc/mAP'], []),
    'cityscapes': (tiny_datasets.write_cityscapes, 'data/cityscapes',
                   ['coco/bbox_mAP', 'coco/segm_mAP'], []),
    'lvis': (tiny_datasets.write_lvis, 'data/lvis_v1', ['lvis/bbox_AP', 'lvis/segm_AP'], ['lvis']),
    'panoptic': (tiny_datasets.write_coco, 'data/coco', ['coco_panoptic/PQ'], ['panopticapi']),
    'FPN_CONV': (tiny_datasets.write_coco, 'data/coco', ['coco/bbox_mAP', 'coco/segm_mAP'], []),
    'mask': (tiny_datasets.write_coco, 'data/coco', ['coco/bbox_mAP', 'coco/segm_mAP'], []),
    '': (tiny_datasets.write_coco, 'data/coco', ['coco/bbox_mAP'], []),
}  # fmt: skip


# At the length of this test they are the run of another one.
ONLY_LONGER = (
    'mask-rcnn_r50_fpn_mcl_2x_coco',
    'mask-rcnn_r50_fpn_mcl-2fc_2x_coco',
    'coco_R_50_FPN_CONV_3x_moco',
    'coco_R_50_RetinaNet_2x_moco',
    'coco_R_50_RetinaNet_3x_moco',
)


def without_length(name):
    """A config's settings without those that its length decides, and its own paths."""
    lengths = tuple(LONGER) + ('param_scheduler', 'work_dir')
    return {k: v for k, v in flatten(load(name).to_dict()).items() if not k.startswith(lengths)}


@pytest.mark.parametrize(
    ('longer', 'other'),
    zip(
        ONLY_LONGER,
        ['mask-rcnn_r50_fpn_mcl_1x_coco', 'mask-rcnn_r50_fpn_mcl-2fc_1x_coco',
         'mask-rcnn_r50_fpn_mcl_1x_coco', *['retinanet_r50_fpn_mcl_1x_coco'] * 2],
    ),
)  # fmt: skip
def test_some_are_only_longer(longer, other):
    assert without_length(longer) == without_length(other)


@pytest.mark.parametrize('name', [name for name in CONFIGS if name not in ONLY_LONGER])
def test_trains_from_an_export_and_evaluates(name, tmp_path, monkeypatch):
    """With a learning rate of 0, so that at the end the weights are those it started from."""
    write, root, metrics, needs = next(DATA[key] for key in DATA if key in name)
    for package in needs:
        if find_spec(package) is None:
            pytest.skip(f'{name} needs {package}, see docs/transfer.md')
    # PyPI's lvis is older than the NumPy that took this name away.
    monkeypatch.setattr(np, 'float', float, raising=False)
    monkeypatch.chdir(tmp_path)
    write(tmp_path / root)
    torch.manual_seed(0)
    tiny = copy.deepcopy(TINY)
    tiny['neck']['out_channels'] = 32
    cfg = load(name)
    shrink(cfg._cfg_dict)
    if name == VOC_C4:
        widen_c4(cfg.model, tiny)
    weights = to_mmdet(MODELS.build(tiny).state_dict())
    torch.save(dict(state_dict=weights), 'export.pth')

    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size = 2
    unit = 'epoch' if 'max_epochs' in cfg.train_cfg else 'iter'
    cfg.train_cfg.update({f'max_{unit}s': 1, 'val_interval': 1})
    cfg.default_hooks.checkpoint.interval = cfg.default_hooks.logger.interval = 1
    cfg.optim_wrapper.optimizer.lr = 0
    cfg.update(load_from='export.pth', work_dir='work', log_level='ERROR')
    if 'cityscapes' in name:
        if find_spec('cityscapesscripts'):
            metrics = [*metrics, 'cityscapes/mAP']
        else:  # its evaluation is the second
            cfg.val_evaluator = cfg.val_evaluator[:1]
    cfg.visualizer.name = name  # one of each name in a process
    with DefaultScope.overwrite_default_scope('mmengine'):
        runner = Runner.from_cfg(cfg)
        runner.train()

    assert runner.iter == 1
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in runner.model.modules())  # one process
    scalars = [json.loads(line) for line in
               next(tmp_path.glob('work/*/vis_data/scalars.json')).read_text().splitlines()]  # fmt: skip
    assert np.isfinite(scalars[0]['loss'])
    assert set(metrics) <= set(scalars[-1])
    trained = torch.load(f'work/{unit}_1.pth', weights_only=False)['state_dict']
    carried = fit_to_detector(weights, runner.model)
    parts = cfg.custom_hooks[0].get('parts', ('backbone', 'neck', 'box_head'))
    for part in ('backbone', 'neck', 'box_head'):
        same = [
            torch.equal(trained[key], value)
            for key, value in carried.items()
            if part_to_carry(key) == part and key in trained and value.dim() == 4
        ]
        assert all(same) if part in parts else not any(same)
        assert same or part == 'box_head' or (part == 'neck' and name == VOC_C4)
    # Precise batch norm: the statistics of the one batch there is, not a tenth of them.
    assert not torch.allclose(
        trained['backbone.bn1.running_mean'], weights['backbone.bn1.running_mean']
    )
