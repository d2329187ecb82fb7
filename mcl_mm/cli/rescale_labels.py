"""Write labels in COCO's format for image files of another size than they were drawn on.

    mcl-mm rescale-labels instances_train.json train rescaled/instances_train.json

MMDetection reads boxes as pixels of the image file. If the files have been scaled since the labels were
drawn, all boxes lie in a wrong place. This command reads the size of each file and writes boxes, areas,
polygons, masks and keypoints for it.
"""

import argparse
import json
from pathlib import Path

from mcl_mm.datasets.coco_subsets import read_coco
from mcl_mm.datasets.rescale_labels import rescale
from mcl_mm.files import make_folder, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``rescale-labels``."""
    parser.add_argument('annotations', type=Path, help='annotations in COCO format')
    parser.add_argument('images', type=Path, help='folder of the image files')
    parser.add_argument('out', type=Path, help='file to write')


def run(args: argparse.Namespace) -> None:
    """Read sizes, write, and say what was done."""
    if args.out.exists():
        raise ValueError(f'{args.out} exists: give another name, or remove it')
    if not args.images.is_dir():
        raise ValueError(f'{args.images} is no folder: give the folder of the image files')
    coco, scales = rescale(read_coco(args.annotations), args.images)
    make_folder(args.out.parent)
    write_text(args.out, json.dumps(coco))
    changed = [scale for scale in scales.values() if scale != (1, 1)]
    stretched = [x / y for x, y in changed if abs(x / y - 1) > 0.02]
    print(
        f'{args.out}: {len(changed)} of {len(scales)} images have another size than the labels said'
    )
    if changed:
        print(f'  scaled by {min(map(min, changed)):.4g} to {max(map(max, changed)):.4g}')
    if stretched:
        print(
            f'  {len(stretched)} of them with other proportions. That is right if they were stretched; boxes '
            'of images that got a border instead are still wrong: look at some'
        )
