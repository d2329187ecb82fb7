"""Labels in COCO's format for image files of another size."""

import math
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from pycocotools import mask as rle_masks

Scale = tuple[float, float]
TOLERANCE = 0.02  # of proportions, which rounding changes


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
        ValueError: An image has no size in ``coco``, or is turned against it; or an annotation has a box,
            polygon, mask or keypoints of another form than COCO's.
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
    """Size of a file as MMDetection reads it, and by how much it is larger than its labels say."""
    name = image.get('file_name')
    if not isinstance(name, str):
        raise ValueError(f'image {image["id"]!r} of the labels has no file_name, got {name!r}')
    path = folder / name
    pixels = mmcv.imread(path)
    if pixels is None:
        raise ValueError(f'{path} cannot be read as an image')
    height, width = pixels.shape[:2]
    stated = (image.get('width'), image.get('height'))
    if not all(is_number(side) and side > 0 for side in stated):
        raise ValueError(f'the labels state no width and height of {path}, got {stated}')
    shape, meant = width / height, stated[0] / stated[1]
    if abs(shape / meant - 1) > TOLERANCE and abs(shape * meant - 1) <= TOLERANCE:
        raise ValueError(
            f'{path} is turned: the labels are for {stated[0]} x {stated[1]} pixels, the upright image has '
            f'{width} x {height}. Boxes cannot be turned without knowing which way'
        )
    return (width, height), (width / stated[0], height / stated[1])


def moved(annotation: dict, scale: Scale, size: tuple[int, int]) -> dict:
    """One annotation in the pixels of its file."""
    x, y = scale
    new = dict(annotation)
    check_form(new)
    if 'bbox' in new:
        new['bbox'] = times(new['bbox'], (x, y, x, y))
    if 'area' in new:
        new['area'] *= x * y
    if 'keypoints' in new:
        new['keypoints'] = times(new['keypoints'], (x, y, 1))
    shape = new.get('segmentation')
    if isinstance(shape, list):
        new['segmentation'] = [times(polygon, scale) for polygon in shape]
    elif isinstance(shape, dict):
        new['segmentation'] = moved_mask(shape, size)
    return new


def check_form(annotation: dict) -> None:
    """Refuse shapes that COCO does not have.

    Raises:
        ValueError: Names the annotation.
    """
    box, shape = annotation.get('bbox', [0] * 4), annotation.get('segmentation', [])
    forms = dict(
        bbox=is_row(box, 4) and len(box) == 4,
        area=is_number(annotation.get('area', 0)),
        keypoints=is_row(annotation.get('keypoints', []), 3),
        segmentation=is_mask(shape)
        or (isinstance(shape, list) and all(is_row(polygon, 2) for polygon in shape)),
    )
    for key, right in forms.items():
        if not right:
            got = repr(annotation[key])[:60]
            raise ValueError(f"{key} of annotation {annotation.get('id')} is not COCO's: {got}")


def is_number(value: Any) -> bool:
    """Whether it is a finite one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_row(value: Any, multiple: int) -> bool:
    """Whether it is a list of so many numbers, or of a multiple."""
    return isinstance(value, list) and len(value) % multiple == 0 and all(map(is_number, value))


def is_mask(value: Any) -> bool:
    """Whether it is a run-length encoding, packed or not."""
    return (
        isinstance(value, dict)
        and is_row(value.get('size'), 2)
        and (isinstance(value.get('counts'), str) or is_row(value.get('counts'), 1))
    )


def times(values: list, factors: tuple) -> list:
    """Multiply by factors, over and over."""
    return [value * factors[index % len(factors)] for index, value in enumerate(values)]


def moved_mask(mask: dict, size: tuple[int, int]) -> dict:
    """A run-length encoded mask at the size of its file (width, height)."""
    if isinstance(mask['counts'], list):
        mask = rle_masks.frPyObjects(mask, *mask['size'])
    pixels = cv2.resize(rle_masks.decode(mask), size, interpolation=cv2.INTER_NEAREST)
    encoded = rle_masks.encode(np.asfortranarray(pixels))
    return dict(encoded, counts=encoded['counts'].decode())
