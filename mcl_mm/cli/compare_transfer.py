"""Does pre-training help a detector, and which part of it? Fine-tune from several starts and compare.

    mcl-mm compare-transfer CONFIG EXPORT.pth [--seeds 3] [--work-dir DIR] [--ledger FILE]
    mcl-mm compare-transfer CONFIG [EXPORT.pth] --start coco=COCO.pth --start imagenet=R50.pth

CONFIG is a detector's: a file, a recipe such as transfer/retinanet_r50_fpn_mcl_1x_coco, or one of
MMDetection's (mmdet::...). `mcl-mm export` writes EXPORT.pth. The starts:

    random       random weights
    backbone     the export's backbone
    +neck        the same and the export's FPN
    +box_head    the same and the export's box-head convs

If the detector has no place for a part, the command leaves out that start and says so. Every run is an
`mcl-mm train` of its own. If you call the command again, it keeps finished runs. It prints a table and writes
comparison.json and comparison.png.

--start adds a file of any origin under a name of yours: weights of torchvision or timm, a detector of
MMDetection, another export. All that fits is taken. The doctor judges every file before the first run.

With --ledger, every finished run adds a line to FILE, and a run that FILE has is not run again, whatever the
folder or the machine was. `mcl-mm results` draws the file.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
import sys
from pathlib import Path

from mcl_mm.datasets.settings import check_number

from .settings import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    starts = ['random', 'backbone', '+neck', '+box_head']
    parser.add_argument('config', help="a detector's config")
    parser.add_argument('weights', nargs='?', help='file that `mcl-mm export` has written')
    parser.add_argument('--seeds', type=int, default=3, help='runs from each start (default: 3)')
    parser.add_argument(
        '--starts',
        nargs='+',
        choices=starts,
        default=starts,
        help='random weights and parts of EXPORT.pth to compare (default: all)',
    )
    add_start_and_ledger(parser)
    parser.add_argument(
        '--work-dir', type=Path, help='folder of all runs (default: work_dirs/compare_CONFIG)'
    )
    parser.add_argument('--gpus', type=int, default=1, help='processes of each run (default: 1)')
    add_settings(parser)


def add_start_and_ledger(parser: argparse.ArgumentParser) -> None:
    """Add what both compare commands take."""
    parser.add_argument(
        '--start',
        action='append',
        default=[],
        metavar='NAME=FILE',
        help='a file to start from as well, under a name; may be repeated',
    )
    parser.add_argument(
        '--ledger', type=Path, metavar='FILE', help='of finished runs; made or added to'
    )
    parser.add_argument(
        '--first-seed',
        type=int,
        default=0,
        help='the others follow it: so machines can share the seeds, with a ledger each (default: 0)',
    )


def check_counts(args: argparse.Namespace) -> None:
    """Refuse numbers of runs and processes that cannot be meant.

    Raises:
        ValueError: Says which.
    """
    for name, low, high in (('seeds', 1, 1000), ('first_seed', 0, 2**31), ('gpus', 1, 10_000)):
        check_number(f'--{name.replace("_", "-")}', getattr(args, name), low, high)


def seeds_of(args: argparse.Namespace) -> range:
    """The seeds of all runs."""
    return range(args.first_seed, args.first_seed + args.seeds)


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    from mcl_mm.config import find_config
    from mcl_mm.evaluation.compare_transfer import compare_starts, table
    from mcl_mm.evaluation.records import Book
    from mcl_mm.evaluation.starts import chosen_starts
    from mcl_mm.reading import building, read_config

    check_counts(args)
    path = find_config(args.config)
    out = args.work_dir or Path('work_dirs') / f'compare_{Path(path).stem}'
    book = args.ledger and Book(args.ledger, args.command_line)
    try:
        if book:
            book.check()
        cfg = read_config(path, args.cfg_options)
        with building(args.config):
            starts = chosen_starts(cfg, args.weights, args.starts, args.start, out, args.gpus)
        results = compare_starts(cfg, starts, seeds_of(args), out, args.gpus, book)
    except Exception as error:  # configs are code, and raise anything
        sys.exit(f'{type(error).__name__}: {error}')
    print(f'\n{args.seeds} seed(s), mean ± standard deviation\n{table(results)}')
    print(f'\n{out / "comparison.json"}, {out / "comparison.png"}')
