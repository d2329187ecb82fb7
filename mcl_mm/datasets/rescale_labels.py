"""Labels in COCO's format for image files of another size."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as rle_masks

from .side_information import orientation_of

Scale = tuple[float, float]


def file_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as MMCV reads it: upright, after its EXIF orientation.

    Raises:
        OSError: It is missing, or no image.
    """
    with Image.open(path) as image:
        width, height = image.size
        return (height, width) if orientation_of(image.info) > 4 else (width, height)


def rescale(coco: dict, folder: Path) -> tuple[dict, dict]:
    """Move boxes, areas, polygons, masks and keypoints to the pixels of the image files.

    Each side has a scale of its own, so files that were stretched are right, too.

    Args:
        coco (dict): Of :func:`~mcl_mm.datasets.coco_subsets.read_coco`; not changed.
        folder (Path): What ``file_name`` is relative to.

    Returns:
        tuple: The new labels, and the scale in x and y (float) of each image by its id.

    Raises:
        OSError: An image cannot be read.
        ValueError: An image has no size in ``coco``, or is turned against it.
    """
    sizes, scales = {}, {}
    for image in coco['images']:
        sizes[image['id']], scales[image['id']] = scale_of(image, folder)
    images = [
        dict(image, width=sizes[image['id']][0], height=sizes[image['id']][1])
        for image in coco['images']
    ]
    annotations = [
        moved(one, scales[one['image_id']], sizes[one['image_id']]) for one in coco['annotations']
    ]
    return dict(coco, images=images, annotations=annotations), scales


def scale_of(image: dict, folder: Path) -> tuple[tuple[int, int], Scale]:
    """Size of a file, and by how much it is larger than its labels say."""
    name = image.get('file_name')
    if not isinstance(name, str):
        raise ValueError(f'image {image["id"]!r} of the labels has no file_name, got {name!r}')
    path = folder / name
    width, height = size = file_size(path)
    stated = (image.get('width'), image.get('height'))
    if not all(isinstance(side, (int, float)) and side > 0 for side in stated):
        raise ValueError(f'the labels state no width and height of {path}, got {stated}')
    if width != height and (height, width) == stated:
        raise ValueError(
            f'{path} is turned: the labels are for {stated[0]} x {stated[1]} pixels, the upright image has '
            f'{width} x {height}. Boxes cannot be turned without knowing which way'
        )
    return size, (width / stated[0], height / stated[1])


def moved(annotation: dict, scale: Scale, size: tuple[int, int]) -> dict:
    """One annotation in the pixels of its file."""
    x, y = scale
    new = dict(annotation)
    if 'bbox' in new:
        new['bbox'] = [value * by for value, by in zip(new['bbox'], (x, y, x, y))]
    if 'area' in new:
        new['area'] *= x * y
    if 'keypoints' in new:
        new['keypoints'] = [v * (x, y, 1)[i % 3] for i, v in enumerate(new['keypoints'])]
    shape = new.get('segmentation')
    if isinstance(shape, list):
        new['segmentation'] = [[v * (x, y)[i % 2] for i, v in enumerate(p)] for p in shape]
    elif isinstance(shape, dict):
        new['segmentation'] = moved_mask(shape, size)
    return new


def moved_mask(mask: dict, size: tuple[int, int]) -> dict:
    """A run-length encoded mask at the size of its file (width, height)."""
    if isinstance(mask['counts'], list):
        mask = rle_masks.frPyObjects(mask, *mask['size'])
    pixels = cv2.resize(rle_masks.decode(mask), size, interpolation=cv2.INTER_NEAREST)
    encoded = rle_masks.encode(np.asfortranarray(pixels))
    return dict(encoded, counts=encoded['counts'].decode())
