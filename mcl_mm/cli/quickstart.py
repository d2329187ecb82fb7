"""Go from a folder of images to a better detector, in minutes.

    mcl-mm quickstart                 pre-train on drawn scenes; then fine-tune Mask R-CNN on a few
                                      labelled ones, from random and from pre-trained weights
    mcl-mm quickstart --images DIR    pre-train on your own images instead

The command writes one page, index.html. It shows what the network saw, how it learnt and what the detector
gained. If you call the command again, it keeps what is finished.
"""

import argparse
import sys
from pathlib import Path

from mcl_mm.quickstart.run import Quickstart


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        '--images', type=Path, help='a folder of images, nested or flat, without labels'
    )
    parser.add_argument(
        '--seeds', type=int, default=1, help='fine-tuning runs from each start (default: 1)'
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='folder to write to (default: work_dirs/quickstart; with --images, '
        'work_dirs/quickstart_images)',
    )


def run(args: argparse.Namespace) -> None:
    """Run all stages and print what came out."""
    suffix = '_images' if args.images else ''
    out = args.work_dir or Path(f'work_dirs/quickstart{suffix}')
    quickstart = Quickstart(out, args.images, args.seeds)
    try:
        page = quickstart.run()
    except RuntimeError as error:  # a training has failed
        sys.exit(f'{error}')
    except KeyboardInterrupt:
        sys.exit('Stopped. The same command goes on with the stage that was not finished.')
    print(quickstart.summary())
    print(f'\npage      {page}\nweights   {quickstart.weights}')
