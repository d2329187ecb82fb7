"""Metrics of finished runs: those to show, and those that no evaluator logged."""

import pytest
from mmengine.config import Config

from conftest import ROOT
from mcl_mm.evaluation.metrics import fill, headline

MASK_RCNN = ROOT / 'configs/quickstart/finetune.py'


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


def test_nothing_detected_is_ap_0():
    """COCO's evaluator logs no metric then; other runs say which there are, or the config does."""
    cfg = Config.fromfile(MASK_RCNN)
    results = [{}, {'coco/bbox_mAP': 0.5, 'coco/segm_mAP': 0.25}]
    assert fill(results, cfg) == [{'coco/bbox_mAP': 0, 'coco/segm_mAP': 0}, results[1]]
    assert fill([{}], cfg) == [{'coco/bbox_mAP': 0, 'coco/segm_mAP': 0}]
    cfg.val_evaluator = dict(type='mmdet.LVISMetric', metric='bbox')
    assert fill([{}], cfg) == [{'lvis/bbox_AP': 0}]
