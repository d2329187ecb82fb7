r"""Pre-train by several methods on the same images, and compare what a detector makes of each.

    mcl-mm compare-pretrain --methods CONFIG [CONFIG ...] --data DIR --detector CONFIG [--seeds 3]
    mcl-mm compare-pretrain --methods my_mcl.py mocov2 byol --data my/images --detector my_detector.py
    mcl-mm compare-pretrain --methods quickstart/pretrain quickstart/mocov2 --data my/images \
        --detector retinanet_bccd --equal compute

Methods are configs of pre-training: MCL's own, and other methods in configs/peers and configs/quickstart. The
bare names mocov2, densecl, byol and supervised stand for that method with the network, the data and the
schedule of the first config. The first config must then be an MCL's.

All methods have to see the same number of images. With --equal compute, they need not: the others train as
long as needed to spend the multiply-adds of the first.

The detector takes all that an export has: the backbone, and from MCL the pyramid and the box-head convs, too.
Random weights are the baseline. Every run is an `mcl-mm train` of its own. If you call the command again, it
keeps finished runs. It prints a table and writes comparison.json and comparison.png.

--start adds files to fine-tune from as they are, such as ImageNet's or COCO's weights. The doctor judges them
first.

With --ledger, every finished run adds a line to FILE, and a run that FILE has is not run again, whatever the
folder or the machine was. `mcl-mm results` draws the file.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
import sys
from math import inf
from pathlib import Path

from .compare_transfer import add_start_and_ledger, check_counts, seeds_of
from .settings import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        '--methods',
        nargs='+',
        required=True,
        help='configs of pre-training; behind the first one also mocov2, densecl, byol or supervised',
    )
    parser.add_argument(
        '--data',
        required=True,
        help='folder of images; supervised methods need a folder for each class in it',
    )
    parser.add_argument('--detector', required=True, help="a detector's config")
    parser.add_argument('--seeds', type=int, default=3, help='runs of each method (default: 3)')
    parser.add_argument(
        '--equal',
        choices=['images', 'compute'],
        default='images',
        help='what all methods get the same amount of (default: images)',
    )
    parser.add_argument(
        '--length',
        type=float,
        default=1,
        help='multiply the length of each pre-training by this (default: 1)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='folder of all runs (default: work_dirs/pretrain_DETECTOR_EQUAL)',
    )
    parser.add_argument('--gpus', type=int, default=1, help='processes of each run (default: 1)')
    add_settings(parser, '--detector-options')
    add_start_and_ledger(parser)


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    from mcl_mm.config import find_config
    from mcl_mm.evaluation import methods as ways
    from mcl_mm.evaluation.compare_pretrain import compare_methods, table
    from mcl_mm.evaluation.records import Book
    from mcl_mm.evaluation.starts import named_starts
    from mcl_mm.reading import building, read_config

    check_counts(args)
    if not 0 < args.length < inf:
        raise ValueError(
            f'--length multiplies the length of a run: a number above 0, not {args.length}'
        )
    path = find_config(args.detector)
    out = args.work_dir or Path(f'work_dirs/pretrain_{Path(path).stem}_{args.equal}')
    book = args.ledger and Book(args.ledger, args.command_line)
    try:
        if book:
            book.check()
        detector = read_config(path, args.detector_options)
        with building(args.detector):
            others = named_starts(detector, args.start, out, args.gpus)
        methods = ways.prepare_all(args.methods, args.data, args.gpus)
        with building(args.detector):
            ways.check(methods, detector, args.equal)
        methods = ways.stretch_all(methods, args.length, args.equal)
        seeds = seeds_of(args)
        about = dict(data=args.data, detector=args.detector, equal=args.equal, seeds=[*seeds])
        rows = compare_methods(methods, detector, seeds, out, args.gpus, about, others, book)
    except Exception as error:  # configs are code, and raise anything
        sys.exit(f'{type(error).__name__}: {error}')
    print(f'\n{args.seeds} seed(s), mean ± standard deviation; equal {args.equal}\n')
    print(table(rows))
    print(f'\n{out / "comparison.json"}, {out / "comparison.png"}')
