"""Draw how pre-training went: one page of curves, sheets and nearest neighbours.

    mcl-mm plot WORK_DIR [WORK_DIR ...] [--out DIR]

The command writes run.png and run.html into the first work directory or DIR. run.html has everything in one
file, so you can send it to others. Several runs share the axes. A resumed run is one curve. The pictures come
from the run's own data and its newest checkpoint.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        'runs', nargs='+', type=Path, metavar='WORK_DIR', help='work directory of a run'
    )
    parser.add_argument('--out', type=Path, help='folder to write to (default: the first WORK_DIR)')
    parser.add_argument(
        '--images', type=int, default=32, help='images of a montage; 0: curves only (default: 32)'
    )
    parser.add_argument('--seed', type=int, default=0, help='which images and tiles (default: 0)')


def run(args: argparse.Namespace) -> None:
    """Draw and write."""
    from mcl_mm.evaluation.run_page import write_page

    out = args.out or args.runs[0]
    sentences = write_page(args.runs, out, args.images, args.seed)
    print('\n'.join([*sentences, str(out / 'run.png'), str(out / 'run.html')]))
