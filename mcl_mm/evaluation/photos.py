"""Images to measure with."""

import functools
import itertools
import os

import cv2
import numpy as np

from mcl_mm.datasets import UnlabelledImages

LABELLED = '.labelled'  # ends the name of the list that has labels


def draw_photos(folder: str, count: int = 32) -> None:
    """Write JPEGs of 500 x 375 pixels, quality 92, with detail at all scales as in photographs."""
    rng = np.random.default_rng(0)
    for index in range(count):
        image = np.full((375, 500, 3), rng.uniform(60, 190, 3))
        for cells in (2, 4, 8, 16, 32, 64, 128):
            noise = rng.standard_normal((cells * 3 // 4 + 1, cells, 3)) * 70 / cells**0.5
            image += cv2.resize(noise, (500, 375), interpolation=cv2.INTER_CUBIC)
        for _ in range(8):
            centre = tuple(map(int, rng.integers(0, 500, 2)))
            cv2.circle(
                image, centre, int(rng.integers(10, 80)), rng.uniform(0, 255, 3).tolist(), -1
            )
        image += rng.normal(0, 7, image.shape)
        path = os.path.join(folder, f'{index:03d}.jpg')
        cv2.imwrite(path, image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])


def list_images(folder: str, count: int, out: str) -> None:
    """List ``count`` images of a folder, from the first again if it has fewer, as ``ann_file`` takes them.

    Writes ``out``, and for supervised methods ``out`` + ``LABELLED``, whose labels are 0 and 1 in turn.

    Raises:
        OSError, ValueError: It has no image that can be read.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'no image folder at {os.path.abspath(folder)}')
    paths = [info['img_path'] for info in UnlabelledImages(data_root=folder).load_data_list()]
    paths = [os.path.relpath(path, folder) for path in paths]
    open_list = functools.partial(open, mode='w', errors='surrogateescape')
    with open_list(out) as plain, open_list(out + LABELLED) as labelled:
        for index, path in enumerate(itertools.islice(itertools.cycle(paths), count)):
            plain.write(f'{path}\n')
            labelled.write(f'{path} {index % 2}\n')  # what the labels are costs nothing
