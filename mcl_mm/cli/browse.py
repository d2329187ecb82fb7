"""Draw what the network sees: one sheet of each level, for both sides, before normalisation.

    mcl-mm browse CONFIG OUT.png [--cfg-options train_dataloader.dataset.data_root=DIR]
    mcl-mm browse CONFIG OTHER_CONFIG OUT.png         # the same images by both recipes

Every tile has a frame. Its colour, and its number if there is room, show the source image of the tile.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
from pathlib import Path

from .settings import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        'config', nargs='+', help='config of a pre-training run, or name of a recipe'
    )
    parser.add_argument('out', help='picture to write, .png or .jpg')
    parser.add_argument('--batch-size', type=int, help="images a montage (default: the config's)")
    parser.add_argument('--seed', type=int, default=0, help='which images and tiles (default: 0)')
    add_settings(parser)


def run(args: argparse.Namespace) -> None:
    """Draw and write."""
    import cv2

    from mcl_mm.channels import follow_channels
    from mcl_mm.config import find_config
    from mcl_mm.evaluation.montage_picture import draw_montages
    from mcl_mm.files import atomic_path, check_output
    from mcl_mm.reading import read_config

    if not cv2.haveImageWriter(args.out):
        raise ValueError(f'{args.out} must end in .png or .jpg')
    check_output(args.out)
    configs = {}
    for path in map(find_config, args.config):
        cfg = read_config(path, args.cfg_options)
        follow_channels(cfg)
        configs[Path(path).stem if Path(path).stem not in configs else path] = cfg
    picture, count = draw_montages(configs, args.batch_size, args.seed)
    with atomic_path(args.out) as path:
        if not cv2.imwrite(path, picture, [cv2.IMWRITE_JPEG_QUALITY, 85]):
            raise OSError(f'cannot write {args.out}')
    print(f'{args.out}: montage of {count} images')
