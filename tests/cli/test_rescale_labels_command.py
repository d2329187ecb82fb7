"""Labels for files of another size: every kind of shape lands on the same pixels of the scene."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from mcl_mm.cli import main

MASK = np.zeros((10, 20), np.uint8)
MASK[2:5, 4:10] = 1
RLE = rle.encode(np.asfortranarray(MASK))
UNPACKED = dict(size=[10, 20], counts=[42, 3, 7, 3, 7, 3, 7, 3, 7, 3, 7, 3, 105])
SHAPES = dict(
    polygon=[[4, 2, 10, 2, 10, 5, 4, 5]],
    packed=dict(size=RLE['size'], counts=RLE['counts'].decode()),
    unpacked=UNPACKED,
)


def call(*arguments):
    """Run the command, which ends by raising SystemExit: with None, or what went wrong."""
    with pytest.raises(SystemExit) as end:
        main('rescale-labels', [*map(str, arguments)])
    return end.value.code


@pytest.fixture
def labels(tmp_path):
    """Labels of a 20 x 10 image, whose file has 40 x 30 pixels, with each kind of mask."""
    Image.new('L', (40, 30)).save(tmp_path / 'a.png')
    path = tmp_path / 'labels.json'

    def write(**image):
        image = dict(dict(id='a', file_name='a.png', width=20, height=10), **image)
        annotations = [
            dict(id=n, image_id='a', category_id=1, bbox=[4, 2, 6, 3], area=18, segmentation=shape,
                 keypoints=[4, 2, 1, 10, 5, 2])
            for n, shape in enumerate(SHAPES.values())
        ]  # fmt: skip
        path.write_text(
            json.dumps(dict(images=[image], annotations=annotations, categories=[], info='x'))
        )
        return path

    return write


def test_shapes(labels, tmp_path, capsys):
    out = tmp_path / 'new/labels.json'
    assert call(labels(), tmp_path, out) is None
    new = json.loads(out.read_text())
    assert new['info'] == 'x'
    assert new['images'] == [dict(id='a', file_name='a.png', width=40, height=30)]
    pixels = np.zeros((30, 40), np.uint8)
    pixels[6:15, 8:20] = 1
    polygon, packed, unpacked = new['annotations']
    for one in new['annotations']:
        assert one['bbox'] == [8, 6, 12, 9]
        assert one['area'] == 18 * 6
        assert one['keypoints'] == [8, 6, 1, 20, 15, 2]
    assert polygon['segmentation'] == [[8, 6, 20, 6, 20, 15, 8, 15]]
    for one in (packed, unpacked):
        assert (rle.decode(one['segmentation']) == pixels).all()
    printed = capsys.readouterr().out
    assert '1 of 1 images' in printed
    assert 'other proportions' in printed  # 2 in x, 3 in y


def test_what_fits_stays(labels, tmp_path, capsys):
    Image.new('L', (20, 10)).save(tmp_path / 'a.png')
    old = labels()
    assert call(old, tmp_path, tmp_path / 'new.json') is None
    new, old = (json.loads(p.read_text())['annotations'] for p in (tmp_path / 'new.json', old))
    assert [one['bbox'] for one in new] == [one['bbox'] for one in old]
    assert '0 of 1 images' in capsys.readouterr().out


def test_orientation_counts(labels, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: 30 x 40 when upright
    Image.new('L', (40, 30)).save(tmp_path / 'b.jpg', exif=exif)
    assert call(labels(file_name='b.jpg'), tmp_path, tmp_path / 'new.json') is None
    image = json.loads((tmp_path / 'new.json').read_text())['images'][0]
    assert (image['width'], image['height']) == (30, 40)


@pytest.mark.parametrize(
    ('image', 'sentence'),
    [
        (dict(width=0), 'state no width and height'),
        (dict(height=None), 'state no width and height'),
        (dict(width=30, height=40), 'is turned'),
        (dict(width=15, height=20), 'is turned'),
        (dict(file_name='none.png'), 'none.png: No such file'),
        (dict(file_name='labels.json'), 'labels.json cannot be read'),
        (dict(file_name=7), 'no file_name'),
    ],
)
def test_refused(labels, tmp_path, image, sentence):
    assert sentence in call(labels(**image), tmp_path, tmp_path / 'new.json')
    assert not (tmp_path / 'new.json').exists()


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('bbox', None),
        ('bbox', [1, 2, 3, 4, 0.5]),  # turned boxes have an angle
        ('bbox', [1, 2, 3, 'x']),
        ('area', None),
        ('keypoints', [1, 2]),
        ('segmentation', [1, 2, 3, 4]),
        ('segmentation', [[1, 2, 3]]),
        ('segmentation', dict(counts=[1])),
        ('segmentation', None),
    ],
)
def test_shapes_that_coco_does_not_have(labels, tmp_path, key, value):
    path = labels()
    coco = json.loads(path.read_text())
    coco['annotations'][1][key] = value
    path.write_text(json.dumps(coco))
    assert f"{key} of annotation 1 is not COCO's" in call(path, tmp_path, tmp_path / 'new.json')


def test_files_are_kept(labels, tmp_path):
    path = labels()
    assert 'exists' in call(path, tmp_path, path)
    assert 'no folder' in call(path, tmp_path / 'none', tmp_path / 'new.json')
