"""The detectors for few labels: they take all of the small recipe's export, and their data as it comes."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from conftest import ROOT, draw_images
from mcl_mm.evaluation.starts import starts_with_room
from mcl_mm.registry import MODELS
from mcl_mm.transfer import to_mmdet

PARTS = {
    'faster-rcnn_half-r18_neu-det': ['backbone', '+neck', '+box_head'],
    'retinanet_half-r18_neu-det': ['backbone', '+neck'],
}


@pytest.fixture(params=PARTS)
def detector(request):
    return Config.fromfile(ROOT / f'configs/small/{request.param}.py')


def test_it_takes_everything_that_the_quickstart_pretrains(detector, tmp_path, capsys):
    model = Config.fromfile(ROOT / 'configs/quickstart/pretrain.py').model
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        torch.save(dict(state_dict=to_mmdet(MODELS.build(model).state_dict())), tmp_path / 'e.pth')
    starts = starts_with_room(detector, tmp_path / 'e.pth')
    parts = PARTS[Path(detector.filename).stem]
    assert list(starts) == ['random', *parts]
    assert ('left out' in capsys.readouterr().out) == ('+box_head' not in parts)


@pytest.fixture
def data(detector, tmp_path):
    """Three images of the set's size with a box in each; MMDetection counts classes as the file does."""
    cfg = detector
    draw_images(tmp_path / 'train', 3, size=(200, 200))
    names = list(cfg.defects)
    coco = dict(
        images=[dict(id=i, file_name=f'{i:04d}.jpg', width=200, height=200) for i in range(3)],
        annotations=[
            dict(id=i, image_id=i, category_id=i, bbox=[50, 100, 100, 50], area=5000, iscrowd=0)
            for i in range(3)
        ],
        categories=[dict(id=i, name=name) for i, name in enumerate(names)],
    )
    path = tmp_path / 'annotations/instances_train.json'
    path.parent.mkdir()
    path.write_text(json.dumps(coco))
    cfg.train_dataloader.dataset.data_root = f'{tmp_path}/'
    return cfg, names


def test_boxes_and_classes_are_those_of_the_file(data):
    cfg, names = data
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        for index in range(3):
            sample = dataset[index]
            assert sample['inputs'].shape == (3, cfg.side, cfg.side)
            labels = sample['data_samples'].gt_instances
            assert [cfg.defects[i] for i in labels.labels] == [names[index]]
            x, y, right, bottom = labels.bboxes.tensor[0].tolist()
            assert (right - x, bottom - y) == pytest.approx((64, 32))
            assert x == pytest.approx(32)  # the middle, flipped or not
            assert y == pytest.approx(64) or y == pytest.approx(32)


def test_the_schedule_is_as_long_as_the_run_and_ends_in_an_evaluation(detector):
    cfg = detector
    length = cfg.train_cfg.max_iters
    assert cfg.param_scheduler[1]['T_max'] == cfg.param_scheduler[1]['end'] == length
    assert length % cfg.train_cfg.val_interval == 0
