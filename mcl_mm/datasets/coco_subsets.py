"""Subsets of COCO annotations: some of the images, all that belongs to them."""

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

LISTS = ('images', 'annotations', 'categories')


def read_coco(path: Path) -> dict:
    """Read a COCO annotation file and check what drawing relies on.

    Args:
        path (Path): The file.

    Returns:
        dict: With at least ``images``, ``annotations`` and ``categories``.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON or not in COCO's format, or its ids do not fit together.
    """
    try:
        coco = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is not a JSON file: {error}') from error
    absent = [k for k in LISTS if not isinstance(coco, dict) or not isinstance(coco.get(k), list)]
    if absent:
        raise ValueError(
            f'{path} is not a COCO annotation file: it has no list of {", ".join(absent)}'
        )
    ids = read_ids(path, 'image', coco['images'], 'id')
    of_annotations = read_ids(path, 'annotation', coco['annotations'], 'image_id')
    if len(set(ids)) < len(ids):
        raise ValueError(f'{path} has {len(ids) - len(set(ids))} images with the id of another one')
    strays = in_order(set(of_annotations) - set(ids))
    if strays:
        raise ValueError(
            f'{path} has annotations of {len(strays)} images that it does not list, first '
            f'image_id {strays[0]!r}{other_type(strays[0], ids)}'
        )
    return coco


def read_ids(path: Path, what: str, items: list, key: str) -> list:
    """The ids in a list of images or annotations.

    Raises:
        ValueError: Something in the list has none, or one that is neither a number nor a text.
    """
    for number, item in enumerate(items, 1):
        value = item.get(key) if isinstance(item, dict) else None
        finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        if isinstance(value, bool) or not (finite or isinstance(value, str)):
            got = repr(value)[:50] if isinstance(item, dict) else repr(item)[:50]
            raise ValueError(
                f'{path} is not a COCO annotation file: an image needs an id, an annotation an '
                f'image_id, a number or a text; {what} {number} has {got}'
            )
    return [item[key] for item in items]


def other_type(stray: Any, ids: list) -> str:
    """What to say if images have the id of an annotation, but as a text or as a number."""
    twin = next((one for one in ids if str(one) == str(stray)), None)
    if twin is None:
        return ''
    return f', and an image has the id {twin!r}: write both as numbers, or both as texts'


def in_order(ids: Iterable[Any]) -> list:
    """Sort ids: numbers, then texts, each among themselves."""
    return sorted(ids, key=lambda value: (isinstance(value, str), value))


def subset_size(coco: dict, percent: float) -> int:
    """How many images a share is.

    Raises:
        ValueError: Less than one.
    """
    total = len(coco['images'])
    count = round(total * percent / 100)
    if count == 0:
        raise ValueError(f'{percent:g} percent of {total} images is less than one')
    return count


def draw(coco: dict, percent: float, fold: int, seed: int) -> dict:
    """One subset.

    Args:
        coco (dict): Of :func:`read_coco`.
        percent (float): Share of the images, in (0, 100].
        fold (int): Which independent draw.
        seed (int): Of all folds.

    Returns:
        dict: As ``coco``, with fewer images and annotations, in their old order.

    Raises:
        ValueError: The subset would have no image.
    """
    ids = in_order(image['id'] for image in coco['images'])
    order = np.random.default_rng([seed, fold]).permutation(len(ids))
    chosen = {ids[i] for i in order[: subset_size(coco, percent)]}
    return dict(
        coco,
        images=[image for image in coco['images'] if image['id'] in chosen],
        annotations=[a for a in coco['annotations'] if a['image_id'] in chosen],
    )
