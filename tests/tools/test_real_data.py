"""Detectors from an export on real images, where they are at hand: COCO's layout and PASCAL VOC's."""

import json
from math import isfinite

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from test_tools import call

from conftest import ROOT
from mcl_mm.registry import MODELS
from mcl_mm.transfer import to_mmdet

DATA = ROOT.parent / 'shared/data'
FAST = [
    f'{loader}_dataloader.{key}'
    for loader in ('train', 'val')
    for key in ('num_workers=0', 'persistent_workers=False')
] + [
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'default_hooks.checkpoint.interval=1',
    'default_hooks.logger.interval=1',
]


@pytest.fixture
def export(tmp_path):
    """An export of the quickstart's network."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(Config.fromfile(ROOT / 'configs/quickstart/pretrain.py').model)
    model.init_weights()
    torch.save(dict(state_dict=to_mmdet(model.state_dict())), tmp_path / 'export.pth')
    return tmp_path / 'export.pth'


def fine_tune(monkeypatch, config, export, work_dir, *options):
    """Train for an epoch, evaluate; what was logged (by a visualizer that no other run shares)."""
    call(monkeypatch, 'train', config, '--work-dir', work_dir, '--cfg-options', *FAST, *options,
         f'load_from={export}', f'visualizer.name={config.stem}')  # fmt: skip
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    return [json.loads(line) for line in scalars.read_text().splitlines()]


def test_blood_cells_in_voc_format(export, tmp_path, monkeypatch):
    """Two of the images have a box without extent, which must not spoil the loss."""
    if not (DATA / 'bccd').exists():
        pytest.skip(f'no images at {DATA}/bccd')
    images = ['BloodImage_00338', 'BloodImage_00343', 'BloodImage_00001', 'BloodImage_00004']
    (tmp_path / 'train.txt').write_text('\n'.join(images))
    logged = fine_tune(
        monkeypatch, ROOT / 'configs/quickstart/retinanet_bccd.py', export, tmp_path / 'run',
        f'train_dataloader.dataset.data_root={DATA}/bccd/',
        f'val_dataloader.dataset.data_root={DATA}/bccd/',
        f'train_dataloader.dataset.ann_file={tmp_path}/train.txt',
        'train_dataloader.batch_size=4',
        'val_dataloader.dataset.indices=4',
    )  # fmt: skip
    assert all(isfinite(line['loss']) for line in logged if 'loss' in line)
    assert any('pascal_voc/mAP' in line for line in logged)


def test_mask_rcnn_on_coco(export, tmp_path, monkeypatch):
    coco = DATA / 'coco128'
    if not coco.exists():
        pytest.skip(f'no images at {coco}')
    options = [
        f'val_evaluator.ann_file={coco}/annotations/instances_val2017.json',
        'model.test_cfg.rcnn.score_thr=0',  # a single step finds nothing that is surer
    ]
    for loader in ('train', 'val'):
        options += [f'{loader}_dataloader.dataset.data_root={coco}/',
                    f'{loader}_dataloader.dataset.indices=4']  # fmt: skip
    logged = fine_tune(
        monkeypatch,
        ROOT / 'configs/quickstart/mask-rcnn_coco.py',
        export,
        tmp_path / 'run',
        *options,
    )
    assert all(isfinite(line['loss']) for line in logged if 'loss' in line)
    results = next(line for line in logged if 'coco/segm_mAP' in line)
    assert 0 <= results['coco/bbox_mAP'] <= 1
