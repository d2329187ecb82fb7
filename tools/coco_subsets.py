"""Draw subsets of a COCO annotation file, for training with few labels.

    python tools/coco_subsets.py data/coco/annotations/instances_train2017.json data/coco/semi_anns

writes ``OUT/instances_train2017.{fold}@{percent}.json``, folds 1 to 5 of 1, 5 and 10 percent: images drawn
at random without replacement, all of their annotations, all categories. Within a fold a smaller
percentage is part of a larger one. The same seed draws the same images from the same file, whatever other
percentages and folds are asked for.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np


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
    except ValueError as error:
        raise ValueError(f'{path} is not a JSON file: {error}') from error
    lists = ('images', 'annotations', 'categories')
    absent = [
        key for key in lists if not isinstance(coco, dict) or not isinstance(coco.get(key), list)
    ]
    if absent:
        raise ValueError(
            f'{path} is not a COCO annotation file: it has no list of {", ".join(absent)}'
        )
    try:
        ids = [image['id'] for image in coco['images']]
        strays = {annotation['image_id'] for annotation in coco['annotations']} - set(ids)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f'{path} is not a COCO annotation file: an image needs an id, an annotation an image_id'
        ) from error
    if len(set(ids)) < len(ids):
        raise ValueError(f'{path} has {len(ids) - len(set(ids))} images with the id of another one')
    if strays:
        raise ValueError(
            f'{path} has annotations of {len(strays)} images that it does not list, first '
            f'image_id {min(strays)}'
        )
    return coco


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
    ids = sorted(image['id'] for image in coco['images'])
    count = round(len(ids) * percent / 100)
    if count == 0:
        raise ValueError(f'{percent:g} percent of {len(ids)} images is less than one')
    order = np.random.default_rng([seed, fold]).permutation(len(ids))
    chosen = {ids[i] for i in order[:count]}
    return dict(
        coco,
        images=[image for image in coco['images'] if image['id'] in chosen],
        annotations=[a for a in coco['annotations'] if a['image_id'] in chosen],
    )


def write_atomically(path: Path, coco: dict) -> None:
    """Write JSON so that the file is there as a whole or not at all."""
    partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
    try:
        with open(partial, 'w') as file:
            json.dump(coco, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('annotations', type=Path, help='instances_train2017.json or its like')
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument('--percent', type=float, nargs='+', default=[1, 5, 10], help='1 5 10')
    parser.add_argument('--folds', type=int, default=5, help='number of draws; 5')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    try:
        for percent in args.percent:
            if not 0 < percent <= 100:
                raise ValueError(f'--percent must lie in (0, 100], got {percent:g}')
        if args.folds < 1 or args.seed < 0:
            raise ValueError('--folds must be at least 1 and --seed at least 0')
        coco = read_coco(args.annotations)
        args.out.mkdir(parents=True, exist_ok=True)
        for percent in args.percent:
            for fold in range(1, args.folds + 1):
                subset = draw(coco, percent, fold, args.seed)
                path = args.out / f'{args.annotations.stem}.{fold}@{percent:g}.json'
                write_atomically(path, subset)
                print(
                    f'{path}: {len(subset["images"])} of {len(coco["images"])} images, '
                    f'{len(subset["annotations"])} annotations'
                )
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')


if __name__ == '__main__':
    main()
