"""A few small images in the format and the folders of each data set that detectors are compared on."""

import json
from pathlib import Path

import numpy as np
from mmdet.datasets import (
    CityscapesDataset,
    CocoDataset,
    CocoPanopticDataset,
    LVISV1Dataset,
    VOCDataset,
)
from PIL import Image

SIZE = (144, 96)  # width, height
BOXES = [(4, 6, 40, 36), (50, 20, 36, 38)]  # x, y, width, height of the objects of every image


def draw(path: Path, seed: int) -> None:
    """An image of noise with a bright object in each of ``BOXES``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 100, (SIZE[1], SIZE[0], 3), np.uint8)
    for x, y, w, h in BOXES:
        image[y : y + h, x : x + w] += rng.integers(50, 150, 3).astype(np.uint8)
    Image.fromarray(image).save(path)


def write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def instances(images: list, class_ids: list) -> list:
    """COCO annotations: one object of each of two classes in each image."""
    return [
        dict(id=2 * n + k + 1, image_id=image['id'], category_id=class_ids[k], iscrowd=0,
             bbox=[x, y, w, h], area=w * h, segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]])
        for n, image in enumerate(images)
        for k, (x, y, w, h) in enumerate(BOXES)
    ]  # fmt: skip


def listed(name: str, number: int) -> dict:
    return dict(id=number, file_name=name, width=SIZE[0], height=SIZE[1])


def write_coco(root: Path, count: int = 2) -> None:
    """COCO 2017 instances, panoptic maps, and a file of few labels by each name."""
    things = CocoDataset.METAINFO['classes']
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(things)]
    entities = CocoPanopticDataset.METAINFO['classes']
    for split in ('train', 'val'):
        images = [listed(f'{i:012}.jpg', i) for i in range(1, count + 1)]
        for image in images:
            draw(root / f'{split}2017' / image['file_name'], image['id'])
        coco = dict(images=images, annotations=instances(images, [1, 3]), categories=categories)
        write_json(root / f'annotations/instances_{split}2017.json', coco)
        if split == 'train':
            for percent in (1, 5, 10):
                write_json(root / f'semi_anns/instances_train2017.1@{percent}.json', coco)
        folder = root / f'annotations/panoptic_{split}2017'
        folder.mkdir(parents=True)
        segments = [
            (1, 1, *BOXES[0]),
            (2, 3, *BOXES[1]),
            (3, 100, 0, 0, *SIZE),
        ]  # the last is stuff
        for image in images:
            ids = np.full((SIZE[1], SIZE[0]), 3, np.uint8)
            for number, _, x, y, w, h in segments[:2]:
                ids[y : y + h, x : x + w] = number
            coded = np.stack([ids, 0 * ids, 0 * ids], -1)
            Image.fromarray(coded).save(folder / image['file_name'].replace('.jpg', '.png'))
        write_json(
            root / f'annotations/panoptic_{split}2017.json',
            dict(
                images=images,
                annotations=[
                    dict(image_id=image['id'], file_name=image['file_name'].replace('.jpg', '.png'),
                         segments_info=[dict(id=s, category_id=c, bbox=box, iscrowd=0,
                                             area=int((ids == s).sum()))
                                        for s, c, *box in segments])
                    for image in images
                ],
                categories=[dict(id=i + 1, name=name, isthing=int(i < len(things)))
                            for i, name in enumerate(entities)],
            ),
        )  # fmt: skip


def write_lvis(root: Path) -> None:
    """LVIS v1, which names its images by where COCO has them on the web."""
    categories = [
        dict(id=i + 1, name=name, frequency='rcf'[i % 3])
        for i, name in enumerate(LVISV1Dataset.METAINFO['classes'])
    ]
    for split in ('train', 'val'):
        images = [listed(f'{i:012}.jpg', i) for i in (1, 2)]
        for image in images:
            name = f'{split}2017/{image["file_name"]}'
            draw(root / name, image['id'])
            image.update(coco_url=f'http://images.cocodataset.org/{name}', neg_category_ids=[5],
                         not_exhaustive_category_ids=[])  # fmt: skip
        lvis = dict(images=images, annotations=instances(images, [1, 3]), categories=categories)
        write_json(root / f'annotations/lvis_v1_{split}.json', lvis)


def write_voc(root: Path) -> None:
    """PASCAL VOC 2007 and 2012, one training image each."""
    names = VOCDataset.METAINFO['classes']
    for year, lists in (('2007', ('trainval', 'test')), ('2012', ('trainval',))):
        folder = root / f'VOC{year}'
        for sub in ('Annotations', 'ImageSets/Main'):
            (folder / sub).mkdir(parents=True)
        for number, split in enumerate(lists):
            name = f'{year}_{number:06}'
            draw(folder / f'JPEGImages/{name}.jpg', number)
            (folder / f'ImageSets/Main/{split}.txt').write_text(name + '\n')
            objects = ''.join(
                f'<object><name>{names[k]}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin>'
                f'<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>'
                for k, (x, y, w, h) in enumerate(BOXES)
            )
            (folder / f'Annotations/{name}.xml').write_text(
                f'<annotation><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height>'
                f'<depth>3</depth></size>{objects}</annotation>'
            )


def write_cityscapes(root: Path) -> None:
    """Cityscapes: instances as MMDetection's converter writes them, and the maps they come from."""
    first = 24  # of the label ids that have instances
    categories = [
        dict(id=first + i, name=name)
        for i, name in enumerate(CityscapesDataset.METAINFO['classes'])
    ]
    for split in ('train', 'val'):
        images = [listed(f'bonn/bonn_{i:06}_leftImg8bit.png', i) for i in (1, 2)]
        for image in images:
            draw(root / f'leftImg8bit/{split}' / image['file_name'], image['id'])
            ids = np.zeros((SIZE[1], SIZE[0]), np.uint16)
            for k, (x, y, w, h) in enumerate(BOXES):
                ids[y : y + h, x : x + w] = (first + 2 * k) * 1000
            path = (
                root
                / f'gtFine/{split}'
                / image['file_name'].replace('leftImg8bit', 'gtFine_instanceIds')
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids).save(path)
        write_json(
            root / f'annotations/instancesonly_filtered_gtFine_{split}.json',
            dict(images=images, annotations=instances(images, [first, first + 2]),
                 categories=categories),
        )  # fmt: skip
