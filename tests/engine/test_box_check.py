"""Labels drawn on images of another size are refused before a run, in whatever format."""

import json

import pytest
import torch
from mmdet.registry import DATASETS
from mmdet.utils import register_all_modules
from PIL import Image

from conftest import build_detector, tiny_detector
from mcl_mm.engine.box_check import check_box_sizes
from mcl_mm.engine.run import start
from mcl_mm.evaluation.trained import load_trained
from tiny_datasets import SIZE, write_coco, write_voc

register_all_modules(init_default_scope=False)
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)]
RESIZE = dict(type='Resize', scale=SIZE, keep_ratio=False)
UPRIGHT, TURNED = 1, 6  # EXIF's Orientation


def coco(root, pipeline=LOAD, **settings):
    return DATASETS.build(
        dict(type='CocoDataset', data_root=str(root), ann_file='annotations/instances_train2017.json',
             data_prefix=dict(img='train2017/'), pipeline=pipeline, **settings)
    )  # fmt: skip


def voc(root, pipeline=LOAD, **settings):
    return DATASETS.build(
        dict(type='VOCDataset', data_root=str(root), ann_file='VOC2007/ImageSets/Main/trainval.txt',
             data_prefix=dict(sub_data_root='VOC2007/'), pipeline=pipeline, **settings)
    )  # fmt: skip


def rewrite(folder, size=SIZE, orientation=UPRIGHT):
    """Save images anew."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for path in folder.iterdir():
        Image.open(path).resize(size).save(path, exif=exif)


def relabel(root, box=None, **size):
    """State another size of all images, or move the second box of each."""
    path = root / 'annotations/instances_train2017.json'
    labels = json.loads(path.read_text())
    for image in labels['images']:
        image.update(size)
    for annotation in labels['annotations'][1::2] if box else []:
        annotation['bbox'] = box
    path.write_text(json.dumps(labels))


@pytest.fixture
def root(tmp_path):
    write_coco(tmp_path, count=3)
    return tmp_path


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr('mcl_mm.engine.box_check.print_log', lambda text, *_: said.append(text))
    return said


def test_labels_of_these_files(root, warnings):
    check_box_sizes(coco(root))
    rewrite(root / 'train2017', (SIZE[0] + 1, SIZE[1] - 1))  # rounding
    check_box_sizes(coco(root))
    assert not warnings


@pytest.mark.parametrize('size', [(300, 200), (SIZE[0], 192), (72, 48)])
@pytest.mark.parametrize('evaluates', [False, True])
def test_files_were_scaled(root, size, evaluates):
    rewrite(root / 'train2017', size)
    sizes = rf'state {SIZE[0]} x {SIZE[1]} pixels, and the image has {size[0]} x {size[1]}'
    with pytest.raises(ValueError, match=rf'\(3 of 3 tried\).*{sizes}.*mcl-mm rescale-labels'):
        check_box_sizes(coco(root, test_mode=evaluates), evaluates)


@pytest.mark.parametrize('loader', ['LoadImageFromFile', 'mcl_mm.LoadAnyImage'])
def test_one_file_was_scaled_inside_of_wrappers(root, loader):
    path = root / 'train2017/000000000002.jpg'
    Image.open(path).resize((300, 200)).save(path)
    wrapped = dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[
        dict(type='mmdet.CocoDataset', data_root=str(root), data_prefix=dict(img='train2017/'),
             ann_file='annotations/instances_train2017.json', pipeline=[dict(type=loader), LOAD[1]])
    ]))  # fmt: skip
    with pytest.raises(ValueError, match=r'\(1 of 3 tried\): for .*000000000002.jpg'):
        check_box_sizes(DATASETS.build(wrapped))


def test_files_are_resized_before_their_labels_are_loaded(root):
    rewrite(root / 'train2017', (300, 200))
    dataset = coco(root, [LOAD[0], RESIZE, LOAD[1]])
    check_box_sizes(dataset)
    with pytest.raises(ValueError, match='of another size'):  # results are scaled back to the file
        check_box_sizes(dataset, evaluates=True)


def test_files_are_turned(root, warnings):
    rewrite(root / 'train2017', orientation=TURNED)
    check_box_sizes(coco(root))  # all boxes lie inside of both
    assert 'color_type="color_ignore_orientation"' in warnings[0]
    relabel(root, box=[100, 20, 40, 40])
    with pytest.raises(ValueError, match='color_type="color_ignore_orientation"'):
        check_box_sizes(coco(root))
    as_stored = dict(type='LoadImageFromFile', color_type='color_ignore_orientation')
    check_box_sizes(coco(root, [as_stored, LOAD[1]]))


def test_a_stated_size_may_be_wrong_alone(root, tmp_path, warnings):
    """Boxes that fit the file and not the size, or fit both, are taken."""
    relabel(root, width=2 * SIZE[0], height=2 * SIZE[1])
    check_box_sizes(coco(root))
    write_voc(tmp_path / 'voc')
    for path in (tmp_path / 'voc/VOC2007/Annotations').iterdir():
        path.write_text(path.read_text().replace('>144<', '>80<').replace('>96<', '>50<'))
    check_box_sizes(voc(tmp_path / 'voc'))
    assert len(warnings) == 2


def test_voc(tmp_path):
    write_voc(tmp_path)
    check_box_sizes(voc(tmp_path))
    (path,) = (tmp_path / 'VOC2007/JPEGImages').glob('*_000000.jpg')
    Image.open(path).resize((300, 200)).save(path)
    with pytest.raises(ValueError, match='trainval.txt are for images of another size'):
        check_box_sizes(voc(tmp_path))


def test_sizes_of_zero(root, tmp_path, warnings):
    """Trained on, all boxes are lost in COCO's format; in VOC's, where programs write it, none is."""
    relabel(root, width=0, height=0)
    with pytest.raises(ValueError, match='MMDetection drops all boxes'):
        check_box_sizes(coco(root))
    check_box_sizes(coco(root, test_mode=True), evaluates=True)  # the metric reads the file itself
    write_voc(tmp_path / 'voc')
    for path in (tmp_path / 'voc/VOC2007/Annotations').iterdir():
        path.write_text(path.read_text().replace('>144<', '>0<').replace('>96<', '>0<'))
    check_box_sizes(voc(tmp_path / 'voc'))
    assert not warnings


def test_files_that_cannot_be_read(root):
    path = root / 'train2017/000000000003.jpg'
    path.write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'000000000003.jpg cannot be read as an image'):
        check_box_sizes(coco(root))
    path.write_bytes(b'')
    check_box_sizes(coco(root, [dict(type='LoadImageFromFile', ignore_empty=True), LOAD[1]]))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r'000000000003.jpg'):
        check_box_sizes(coco(root))


def test_labels_without_sizes_and_other_data_are_left_alone(root):
    rewrite(root / 'train2017', (300, 200))
    check_box_sizes([1, 2, 3])
    check_box_sizes(coco(root, pipeline=[]))
    dataset = coco(root, serialize_data=False)
    for info in dataset.data_list:
        info.update(width=None, height=None)
    check_box_sizes(dataset)


@pytest.fixture
def cfg(root, tmp_path):
    """A detector on these data."""
    cfg = tiny_detector('retinanet/retinanet_r50_fpn_1x_coco.py')
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].update(num_workers=0, persistent_workers=False)
        cfg[loader].dataset.data_root = f'{root}/'
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = f'{root}/annotations/instances_val2017.json'
    cfg.work_dir = str(tmp_path / 'work')
    cfg.launcher = 'none'
    return cfg


def scale_one(root, split):
    path = root / f'{split}2017/000000000001.jpg'
    Image.open(path).resize((300, 200)).save(path)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_training_does_not_start(cfg, root, split):
    start(cfg).end_quiet_start()
    scale_one(root, split)
    with pytest.raises(ValueError, match='of another size'):
        start(cfg)


def test_an_evaluation_does_not_start(cfg, root, tmp_path):
    weights = build_detector(cfg.model).state_dict()
    torch.save(dict(state_dict=weights, meta={}), tmp_path / 'trained.pth')
    load_trained(cfg, str(tmp_path / 'trained.pth'))
    scale_one(root, 'val')
    with pytest.raises(ValueError, match='of another size'):
        load_trained(cfg, str(tmp_path / 'trained.pth'))
