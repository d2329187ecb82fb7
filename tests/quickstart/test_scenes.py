"""The drawn data set."""

import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from mcl_mm.quickstart import scenes
from mcl_mm.quickstart.scenes import draw_data_set, main

# Mean value of the second scene of each split, and the classes of the first four scenes to learn from.
YARDSTICK = dict(unlabelled=142.9, train=82.9, val=62.6)
LABELS = [5, 3, 4, 2, 0, 2, 0, 4, 4, 4, 3, 2, 2, 2]


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp('scenes')
    main([str(out), '--train', '4', '--val', '3', '--unlabelled', '2'])
    return out


def test_the_yardstick_stays_the_same(drawn):
    """Results of different versions can be compared. Numbers are of the scenes of version 0.1.0."""
    found = {
        path.parent.name: cv2.imread(str(path)).mean() for path in sorted(drawn.glob('*/00001.jpg'))
    }
    assert found == pytest.approx(YARDSTICK, abs=0.5)  # OpenCV's versions round differently
    coco = COCO(drawn / 'annotations/train.json')
    assert [coco.anns[i]['category_id'] for i in sorted(coco.anns)] == LABELS


def test_another_seed_draws_other_scenes(drawn, tmp_path):
    list(draw_data_set(tmp_path, unlabelled=1, train=0, val=0, seed=1))
    name = 'unlabelled/00000.jpg'
    assert (tmp_path / name).read_bytes() != (drawn / name).read_bytes()


def test_masks_match_their_boxes(drawn):
    coco = COCO(drawn / 'annotations/train.json')
    assert len(coco.imgs) == 4
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    assert len(coco.anns) >= 8
    for annotation in coco.anns.values():
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation['area']
        y, x = mask.nonzero()
        box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
        assert annotation['bbox'] == box


def test_objects_do_not_overlap(drawn):
    coco = COCO(drawn / 'annotations/val.json')
    for image in coco.imgs:
        masks = [coco.annToMask(a) for a in coco.imgToAnns[image]]
        assert np.sum(masks, axis=0).max() == 1


def test_unlabelled_scenes_have_no_annotations(drawn):
    assert {path.name for path in (drawn / 'annotations').iterdir()} == {'train.json', 'val.json'}
    categories = json.loads((drawn / 'annotations/val.json').read_text())['categories']
    assert [c['name'] for c in categories] == list(scenes.CLASSES)


def test_the_share_that_is_done_grows_to_one(tmp_path):
    shares = list(draw_data_set(tmp_path, unlabelled=2, train=1, val=1))
    assert shares == [0.25, 0.5, 0.75, 1.0]
