"""Draw subsets of a COCO annotation file, for training with few labels.

    mcl-mm subsets data/coco/annotations/instances_train2017.json data/coco/semi_anns

The command writes OUT/instances_train2017.{fold}@{percent}.json: folds 1 to 5 of 1, 5 and 10 percent. It
draws images at random without replacement. A file has all annotations of its images, and all categories.
Within a fold, a smaller percentage is part of a larger one. The same seed draws the same images from the same
file, for any choice of percentages and folds.
"""

import argparse
import json
from pathlib import Path

from mcl_mm.datasets.coco_subsets import draw, read_coco, subset_size
from mcl_mm.files import make_folder, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``subsets``."""
    parser.add_argument(
        'annotations',
        type=Path,
        help='annotations in COCO format, such as instances_train2017.json',
    )
    parser.add_argument('out', type=Path, help='folder to write to')
    parser.add_argument(
        '--percent',
        type=float,
        nargs='+',
        default=[1, 5, 10],
        help='sizes of the subsets, in percent of the images (default: 1 5 10)',
    )
    parser.add_argument('--folds', type=int, default=5, help='number of draws (default: 5)')
    parser.add_argument('--seed', type=int, default=0, help='of the draws (default: 0)')


def run(args: argparse.Namespace) -> None:
    """Draw and write; all is checked before the first file is."""
    if args.folds < 1 or args.seed < 0:
        raise ValueError('--folds must be at least 1 and --seed at least 0')
    for percent in args.percent:
        if not 0 < percent <= 100:
            raise ValueError(f'--percent must lie in (0, 100], got {percent:g}')
    coco = read_coco(args.annotations)
    for percent in args.percent:
        subset_size(coco, percent)
    make_folder(args.out)
    for percent in args.percent:
        for fold in range(1, args.folds + 1):
            subset = draw(coco, percent, fold, args.seed)
            path = args.out / f'{args.annotations.stem}.{fold}@{percent:g}.json'
            write_text(path, json.dumps(subset))
            print(
                f'{path}: {len(subset["images"])} of {len(coco["images"])} images, '
                f'{len(subset["annotations"])} annotations'
            )
