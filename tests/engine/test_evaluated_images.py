"""Detections are counted against the labels of the images that were detected on."""

import json

import pytest
from mmdet.utils import register_all_modules
from mmengine.evaluator import Evaluator
from mmengine.registry import DefaultScope
from test_box_check import coco

from mcl_mm.engine.evaluated_images import check_evaluated_images
from tiny_datasets import write_coco

register_all_modules(init_default_scope=False)
TRAIN = 'annotations/instances_train2017.json'


@pytest.fixture
def root(tmp_path):
    write_coco(tmp_path, count=3)
    return tmp_path


def evaluator(path):
    with DefaultScope.overwrite_default_scope('mmdet'):
        return Evaluator(dict(type='CocoMetric', ann_file=str(path)))


def other_file(root, change):
    labels = json.loads((root / TRAIN).read_text())
    change(labels['images'])
    (root / 'other.json').write_text(json.dumps(labels))
    return root / 'other.json'


def test_the_same_images_in_whatever_file_pass(root, caplog):
    copy = other_file(root, lambda images: images.reverse())
    for path in (root / TRAIN, copy):
        check_evaluated_images(coco(root), evaluator(path), 'val_evaluator')


def test_numbers_of_other_images_are_refused(root):
    """Both files have an image 2, and COCO's evaluator would compare by that number."""
    path = other_file(root, lambda images: images[1].update(file_name='elsewhere.jpg'))
    with pytest.raises(
        ValueError, match=r'image 2 is 000000000002\.jpg in .*, and elsewhere\.jpg in.*Set v'
    ):
        check_evaluated_images(coco(root), evaluator(path), 'val_evaluator')
    path = other_file(root, lambda images: images.pop())
    with pytest.raises(
        ValueError, match='image 3 is .*, and no image in the file of test_evaluator'
    ):
        check_evaluated_images(coco(root), evaluator(path), 'test_evaluator')


def test_images_that_are_not_detected_on_are_told(root, monkeypatch):
    said = []
    monkeypatch.setattr(
        'mcl_mm.engine.evaluated_images.print_log', lambda text, *_, **__: said.append(text)
    )
    check_evaluated_images(coco(root, indices=2), evaluator(root / TRAIN), 'val_evaluator')
    assert 'knows 3 images, and the data set reads 2 of them' in said[0]
