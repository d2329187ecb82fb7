"""Runs of a comparison: their configs, what is refused before the first, what is made of results."""

import shutil

import pytest
from mmengine.config import Config

from conftest import ROOT
from mcl_mm.engine import TransferHook
from mcl_mm.evaluation.runs import (
    check_evaluates,
    check_room,
    fill,
    headline,
    write_config,
)
from mcl_mm.evaluation.starts import Start, start_from

RETINANET = ROOT / 'configs/quickstart/retinanet_bccd.py'
MASK_RCNN = ROOT / 'configs/quickstart/finetune.py'


def test_random_is_random(tmp_path):
    """No weights from elsewhere, under whatever key a config has them; how layers are drawn stays."""
    cfg = Config.fromfile(RETINANET)
    file = dict(type='Pretrained', checkpoint='elsewhere.pth')
    drawn = dict(type='Xavier', layer='Conv2d', distribution='uniform')
    cfg.model.init_cfg = file
    cfg.model.pretrained = 'elsewhere.pth'
    cfg.model.backbone.update(init_cfg=[drawn, file], pretrained='elsewhere.pth')
    cfg.model.neck.init_cfg = file
    cfg.custom_hooks = [dict(type=TransferHook), dict(type='mcl_mm.TransferHook')]
    for parts in ((), ('backbone',)):
        start = Start('cut', 'export.pth', parts)
        write_config(start_from(cfg, start), tmp_path / 'config.py', 0)
        text = (tmp_path / 'config.py').read_text()
        assert 'elsewhere' not in text
        assert text.count('TransferHook') == text.count('export.pth') == len(parts)
    cfg.model.neck.init_cfg = drawn
    write_config(start_from(cfg, Start()), tmp_path / 'config.py', 0)
    assert Config.fromfile(tmp_path / 'config.py').model.neck.init_cfg == drawn


@pytest.mark.parametrize(
    ('names', 'chosen'),
    [
        (['coco/bbox_mAP', 'coco/bbox_mAP_50', 'coco/bbox_mAP_s', 'coco/segm_mAP'],
         ['coco/bbox_mAP', 'coco/segm_mAP']),
        (['pascal_voc/mAP', 'pascal_voc/AP50'], ['pascal_voc/mAP', 'pascal_voc/AP50']),
        (['lvis/bbox_AP', 'lvis/bbox_AP50', 'lvis/bbox_APr'], ['lvis/bbox_AP', 'lvis/bbox_AP50']),
        (['coco_panoptic/PQ', 'coco_panoptic/SQ'], ['coco_panoptic/PQ']),
        (['own/score'], ['own/score']),
    ],
)  # fmt: skip
def test_headline_metrics(names, chosen):
    assert headline(names) == chosen


def test_every_run_has_a_seed_of_its_own(tmp_path):
    cfg = Config.fromfile(RETINANET)
    write_config(cfg, tmp_path / 'config.py', 3)
    assert Config.fromfile(tmp_path / 'config.py').randomness.seed == 3
    assert cfg.get('randomness', {}).get('seed') != 3


def test_a_run_that_ends_without_an_evaluation_is_refused():
    cfg = Config.fromfile(RETINANET)
    check_evaluates(cfg)
    cfg.train_cfg.val_begin = 99
    with pytest.raises(ValueError, match='never evaluated: train_cfg.val_begin'):
        check_evaluates(cfg)
    cfg.val_evaluator = cfg.val_cfg = None
    with pytest.raises(ValueError, match='no val_evaluator and no val_cfg'):
        check_evaluates(cfg)


def test_a_disk_without_room_is_refused(tmp_path):
    check_room(tmp_path / 'out', 1)
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(OSError, match='take at least .* GiB, and .* left'):
        check_room(tmp_path / 'out', 2 * free)


def test_nothing_detected_is_ap_0():
    """COCO's evaluator logs no metric then; other runs say which there are, or the config does."""
    cfg = Config.fromfile(MASK_RCNN)
    results = [{}, {'coco/bbox_mAP': 0.5, 'coco/segm_mAP': 0.25}]
    assert fill(results, cfg) == [{'coco/bbox_mAP': 0, 'coco/segm_mAP': 0}, results[1]]
    assert fill([{}], cfg) == [{'coco/bbox_mAP': 0, 'coco/segm_mAP': 0}]
    cfg.val_evaluator = dict(type='mmdet.LVISMetric', metric='bbox')
    assert fill([{}], cfg) == [{'lvis/bbox_AP': 0}]
