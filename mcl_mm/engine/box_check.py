"""Do a detector's labels and image files speak of the same pixels?"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mcl_mm.datasets.seeded_sampler import inner_sets

TRIED = 16  # images of a data set
TOLERANCE = 0.02  # of a side; nobody sees boxes that are off by less

Size = tuple[int, int]


class Mismatch(NamedTuple):
    """An image of another size than its labels state.

    Attributes:
        path (str): Its file.
        stated (tuple[int, int]): Width and height, of the labels.
        size (tuple[int, int]): Width and height, of the image.
        reach (tuple[float, float]): Right and lower end of all boxes; zeros without any.
    """

    path: str
    stated: Size
    size: Size
    reach: tuple[float, float]


def check_box_sizes(dataset: Any, evaluates: bool = False) -> None:
    """Compare the size that labels state for an image with the file's, on images spread over a data set.

    MMDetection reads boxes as pixels of the file. If the files were scaled or turned after the labels had
    been drawn, or the other way round, every box lies in a wrong place: training runs to its end, and the
    detector has learnt nothing. Where the boxes may be right all the same, a warning is logged.

    Args:
        dataset (Any): Of a detector, or wrappers around it. Data sets without boxes, or without sizes, have
            nothing to compare.
        evaluates (bool): Results on it are scaled back to the files. Defaults to False: it is trained on.

    Raises:
        OSError: An image cannot be read.
        ValueError: The sizes differ, and the boxes are for other files.
    """
    for part in inner_sets(dataset):
        if isinstance(part, BaseDataset) and (loaders := image_loaders(part, evaluates)):
            wrong = mismatches(part, loaders, evaluates)
            if wrong:
                judge(part, wrong)


def image_loaders(dataset: BaseDataset, evaluates: bool) -> list[Callable]:
    """The transforms that give what boxes are pixels of: those before the labels are loaded.

    For evaluation, images may be resized first: results are scaled back to the file.
    """
    transforms = getattr(dataset.pipeline, 'transforms', [])
    names = [type(transform).__name__ for transform in transforms]
    if not names or not (names[0].startswith('Load') and 'Image' in names[0]):
        return []
    labels = [index for index, name in enumerate(names) if name.endswith('Annotations')]
    return transforms[: labels[0] if labels and not evaluates else 1]


def mismatches(dataset: BaseDataset, loaders: list[Callable], evaluates: bool) -> list[Mismatch]:
    """The images among those tried whose labels state another size."""
    found = []
    of_voc = any(kind.__name__ == 'XMLDataset' for kind in type(dataset).__mro__)
    for index in np.linspace(0, len(dataset) - 1, min(TRIED, len(dataset))).astype(int):
        info = dataset.get_data_info(int(index))
        stated = (info.get('width'), info.get('height'))
        if not info.get('img_path') or None in stated:
            continue
        if min(stated) <= 0 and (evaluates or of_voc):
            continue  # nothing asks for it there
        size = load(info, loaders)
        if size and differs(size, stated):
            found.append(Mismatch(info['img_path'], stated, size, reach_of(info)))
    return found


def load(info: dict, loaders: list[Callable]) -> Optional[Size]:
    """Width and height of the image of one entry; None for one that the loaders pass over."""
    results = dict(info)
    for loader in loaders:
        try:
            results = loader(results)
        except AssertionError as error:  # MMCV's, of a file that is no image
            raise ValueError(f'{info["img_path"]} cannot be read as an image: {error}') from error
        if results is None:
            return None
    height, width = results['img'].shape[:2]
    return width, height


def reach_of(info: dict) -> tuple[float, float]:
    """How far the boxes of an entry reach, to the right and down."""
    boxes = [one['bbox'] for one in info.get('instances') or [] if 'bbox' in one]
    return tuple(max((box[end] for box in boxes), default=0) for end in (2, 3))


def differs(size: Size, stated: Size) -> bool:
    """Whether boxes for one size are misplaced in the other."""
    return any(abs(a - b) > max(1, TOLERANCE * a) for a, b in zip(size, stated))


def exceeds(reach: tuple[float, float], size: Size) -> bool:
    """Whether boxes leave an image."""
    return any(a > b + max(1, TOLERANCE * b) for a, b in zip(reach, size))


def judge(dataset: BaseDataset, wrong: list[Mismatch]) -> None:
    """Refuse what cannot be right, and warn of the rest.

    Boxes that leave the image are for another one. So are those that fill a part of all larger images, unless
    some reach beyond the size that is stated: then that alone is wrong.

    Raises:
        ValueError: See above.
    """
    leave = [one for one in wrong if exceeds(one.reach, one.size)]
    larger = all(a >= b for one in wrong for a, b in zip(one.size, one.stated))
    stale = any(exceeds(one.reach, one.stated) for one in wrong)
    text = advice(dataset, leave or wrong, len(wrong))
    if leave or (larger and not stale and any(any(one.reach) for one in wrong)):
        raise ValueError(text)
    if any(min(one.stated) <= 0 for one in wrong):  # no box is left
        raise ValueError(text)
    print_log(text, 'current', logging.WARNING)


def advice(dataset: BaseDataset, wrong: list[Mismatch], count: int) -> str:
    """What is wrong, and what to do."""
    path, stated, size, _ = wrong[0]
    labels = getattr(dataset, 'ann_file', '') or type(dataset).__name__
    text = (
        f'the labels of {labels} are for images of another size ({count} of '
        f'{min(TRIED, len(dataset))} tried): for {path} they state {stated[0]} x {stated[1]} pixels, and the '
        f'image has {size[0]} x {size[1]}. '
    )
    if min(stated) <= 0:
        text += 'MMDetection drops all boxes, for none lies inside. Write the sizes into the labels'
    elif not differs(size, stated[::-1]):
        text += (
            'One of the two is turned, and boxes lie in a wrong place: set '
            'color_type="color_ignore_orientation" of LoadImageFromFile in all pipelines if the file says '
            'how the camera was turned, or write the labels anew for the upright image'
        )
    else:
        text += (
            'Boxes lie in a wrong place: write labels for these files (in COCO format: mcl-mm '
            'rescale-labels), or give the files that the labels were drawn on'
        )
    return text
