"""Do a detector's labels and image files speak of the same pixels?"""

from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset

from mcl_mm.datasets.seeded_sampler import inner_sets

TRIED = 16  # images of a data set
TOLERANCE = 0.02  # of a side; nobody sees boxes that are off by less

Size = tuple[int, int]


def check_box_sizes(dataset: Any) -> None:
    """Compare the size that labels state for an image with the file's, on images spread over a data set.

    MMDetection reads boxes as pixels of the file. If the files were scaled or turned after the labels had
    been drawn, or the other way round, every box lies in a wrong place: training runs to its end, and the
    detector has learnt nothing.

    Args:
        dataset (Any): Of a detector, or wrappers around it. Data sets without boxes, or without sizes, have
            nothing to compare.

    Raises:
        OSError: An image cannot be read.
        ValueError: The sizes differ.
    """
    for part in inner_sets(dataset):
        if isinstance(part, BaseDataset) and (loaders := image_loaders(part)):
            check_sizes(part, loaders)


def image_loaders(dataset: BaseDataset) -> list[Callable]:
    """The transforms that give what boxes are pixels of: those before the labels are loaded.

    For testing, images may be resized first: results are scaled back to the file.
    """
    transforms = getattr(dataset.pipeline, 'transforms', [])
    names = [type(transform).__name__ for transform in transforms]
    if not names or not (names[0].startswith('Load') and 'Image' in names[0]):
        return []
    labels = [index for index, name in enumerate(names) if name.endswith('Annotations')]
    return transforms[: labels[0] if labels and not dataset.test_mode else 1]


def check_sizes(dataset: BaseDataset, loaders: list[Callable]) -> None:
    """See :func:`check_box_sizes`."""
    count = min(TRIED, len(dataset))
    wrong = []
    for index in np.linspace(0, len(dataset) - 1, count).astype(int):
        info = dataset.get_data_info(int(index))
        if not {'img_path', 'height', 'width'} <= info.keys():
            return
        stated = (int(info['width']), int(info['height']))
        if min(stated) <= 0 and info.get('instances'):  # files of VOC's kind need no size
            continue
        height, width = load(info, loaders)['img'].shape[:2]
        if differs((width, height), stated):
            wrong.append((info['img_path'], stated, (width, height)))
    if wrong:
        raise ValueError(advice(dataset, count, wrong))


def load(info: dict, loaders: list[Callable]) -> dict:
    """The image of one entry, in a dict."""
    results = dict(info)
    for loader in loaders:
        try:
            results = loader(results)
        except AssertionError as error:  # MMCV's, of a file that is no image
            raise ValueError(f'{info["img_path"]} cannot be read as an image: {error}') from error
    return results


def differs(size: Size, stated: Size) -> bool:
    """Whether boxes for one size are misplaced in the other."""
    return any(abs(a - b) > max(1, TOLERANCE * a) for a, b in zip(size, stated))


def advice(dataset: BaseDataset, count: int, wrong: list[tuple[str, Size, Size]]) -> str:
    """What is wrong, and what to do."""
    path, stated, size = wrong[0]
    labels = getattr(dataset, 'ann_file', '') or type(dataset).__name__
    text = (
        f'the labels of {labels} are for images of another size ({len(wrong)} of {count} tried): for {path} '
        f'they state {stated[0]} x {stated[1]} pixels, and the image has {size[0]} x {size[1]}. '
    )
    if min(stated) <= 0:
        return (
            text
            + 'MMDetection drops all boxes, for none lies inside. Write the sizes into the labels'
        )
    text += 'All its boxes would lie in a wrong place. '
    if not differs(size, stated[::-1]):
        return text + (
            'One of the two is turned: set color_type="color_ignore_orientation" of LoadImageFromFile, or '
            'write the labels anew for the upright image'
        )
    return text + (
        'Write labels for these files with mcl-mm rescale-labels, or give the files that the labels were '
        'drawn on'
    )
