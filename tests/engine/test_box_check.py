"""Labels drawn on images of another size are refused before a run, in whatever format."""

import json

import pytest
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from PIL import Image

from mcl_mm.engine.box_check import check_box_sizes
from tiny_datasets import SIZE, write_coco, write_voc

register_all_modules(init_default_scope=False)
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
RESIZE = dict(type='Resize', scale=SIZE, keep_ratio=False)
UPRIGHT, TURNED = 1, 6  # EXIF's Orientation


def coco(root, pipeline=LOAD, **settings):
    return DATASETS.build(
        dict(type='mmdet.CocoDataset', data_root=str(root), ann_file='annotations/instances_train2017.json',
             data_prefix=dict(img='train2017/'), pipeline=pipeline, **settings)
    )  # fmt: skip


def rewrite(root, size=SIZE, orientation=UPRIGHT):
    """Save the training images anew."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for path in (root / 'train2017').iterdir():
        Image.open(path).resize(size).save(path, exif=exif)


@pytest.fixture
def root(tmp_path):
    write_coco(tmp_path, count=3)
    return tmp_path


def test_labels_of_these_files(root):
    check_box_sizes(coco(root))
    rewrite(root, (SIZE[0] + 1, SIZE[1] - 1))  # rounding
    check_box_sizes(coco(root))


@pytest.mark.parametrize('size', [(300, 200), (SIZE[0], 192), (72, 48)])
@pytest.mark.parametrize('test_mode', [False, True])
def test_files_were_scaled(root, size, test_mode):
    rewrite(root, size)
    sizes = rf'state {SIZE[0]} x {SIZE[1]} pixels, and the image has {size[0]} x {size[1]}'
    with pytest.raises(ValueError, match=rf'\(3 of 3 tried\).*{sizes}.*mcl-mm rescale-labels'):
        check_box_sizes(coco(root, test_mode=test_mode))


def test_images_of_many_channels(root):
    loaders = [dict(type='mcl_mm.LoadAnyImage', channels=3), LOAD[1]]
    check_box_sizes(coco(root, loaders))
    rewrite(root, (300, 200))
    with pytest.raises(ValueError, match='and the image has 300 x 200'):
        check_box_sizes(coco(root, loaders))


def test_one_file_was_scaled_inside_of_wrappers(root):
    path = root / 'train2017/000000000002.jpg'
    Image.open(path).resize((300, 200)).save(path)
    wrapped = dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[
        dict(type='mmdet.CocoDataset', data_root=str(root), ann_file='annotations/instances_train2017.json',
             data_prefix=dict(img='train2017/'), pipeline=LOAD)
    ]))  # fmt: skip
    with pytest.raises(ValueError, match=r'\(1 of 3 tried\): for .*000000000002.jpg'):
        check_box_sizes(DATASETS.build(wrapped))


def test_files_are_resized_before_their_labels_are_loaded(root):
    rewrite(root, (300, 200))
    check_box_sizes(coco(root, [LOAD[0], RESIZE, LOAD[1]]))
    with pytest.raises(
        ValueError, match='of another size'
    ):  # results of a test are scaled back to the file
        check_box_sizes(coco(root, [LOAD[0], RESIZE, LOAD[1]], test_mode=True))


def test_files_are_turned(root):
    rewrite(root, orientation=TURNED)
    with pytest.raises(ValueError, match='color_type="color_ignore_orientation"'):
        check_box_sizes(coco(root))
    as_stored = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    check_box_sizes(coco(root, [as_stored, LOAD[1]]))


def voc(root):
    return DATASETS.build(
        dict(type='VOCDataset', data_root=str(root), ann_file='VOC2007/ImageSets/Main/trainval.txt',
             data_prefix=dict(sub_data_root='VOC2007/'), pipeline=LOAD)
    )  # fmt: skip


def test_voc(tmp_path):
    write_voc(tmp_path)
    check_box_sizes(voc(tmp_path))
    (path,) = (tmp_path / 'VOC2007/JPEGImages').glob('*_000000.jpg')
    Image.open(path).resize((300, 200)).save(path)
    with pytest.raises(ValueError, match='trainval.txt are for images of another size'):
        check_box_sizes(voc(tmp_path))


def test_sizes_of_zero(root, tmp_path):
    """In COCO's format all boxes are lost; in VOC's, where labelling programs write it, none is."""
    path = root / 'annotations/instances_train2017.json'
    labels = json.loads(path.read_text())
    for image in labels['images']:
        image.update(width=0, height=0)
    path.write_text(json.dumps(labels))
    with pytest.raises(ValueError, match='MMDetection drops all boxes'):
        check_box_sizes(coco(root))
    write_voc(tmp_path / 'voc')
    for path in (tmp_path / 'voc/VOC2007/Annotations').iterdir():
        path.write_text(path.read_text().replace('>144<', '>0<').replace('>96<', '>0<'))
    check_box_sizes(voc(tmp_path / 'voc'))


def test_files_that_cannot_be_read(root):
    path = root / 'train2017/000000000003.jpg'
    path.write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'000000000003.jpg cannot be read as an image'):
        check_box_sizes(coco(root))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r'000000000003.jpg'):
        check_box_sizes(coco(root))


def test_labels_without_sizes_and_other_data_are_left_alone(root):
    rewrite(root, (300, 200))
    check_box_sizes([1, 2, 3])
    check_box_sizes(coco(root, pipeline=[]))
    dataset = coco(root, serialize_data=False)
    for info in dataset.data_list:
        del info['width'], info['height']
    check_box_sizes(dataset)
