"""The drawn data set."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from mcl_mm.quickstart import scenes
from mcl_mm.quickstart.scenes import draw_data_set, draw_file, main


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    out = tmp_path_factory.mktemp('scenes')
    main([str(out), '--train', '4', '--val', '3', '--unlabelled', '2'])
    return out


def test_any_number_of_threads_draws_the_same(drawn, tmp_path):
    for index, name in enumerate(('unlabelled', 'train', 'val')):
        for path in (drawn / name).glob('*.jpg'):
            draw_file(tmp_path, (0, index), int(path.stem))
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()


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
