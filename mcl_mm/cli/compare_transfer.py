"""Does pre-training help a detector, and which part of it? Fine-tune from several starts and compare.

    mcl-mm compare-transfer CONFIG EXPORT.pth [--seeds 3] [--work-dir DIR]

CONFIG is a detector's: a file, a recipe such as transfer/retinanet_r50_fpn_mcl_1x_coco, or one of
MMDetection's (mmdet::...). `mcl-mm export` writes EXPORT.pth. The starts:

    random       random weights
    backbone     the export's backbone
    +neck        the same and the export's FPN
    +box_head    the same and the export's box-head convs

If the detector has no place for a part, the command leaves out that start and says so. Every run is an
`mcl-mm train` of its own. If you call the command again, it keeps finished runs. It prints a table and writes
comparison.json and comparison.png.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from mmengine.config import DictAction

    starts = ['random', 'backbone', '+neck', '+box_head']
    parser.add_argument('config', help="a detector's config")
    parser.add_argument('weights', help='file that `mcl-mm export` has written')
    parser.add_argument('--seeds', type=int, default=3, help='runs from each start (default: 3)')
    parser.add_argument(
        '--starts',
        nargs='+',
        choices=starts,
        default=starts,
        help='starts to compare (default: all)',
    )
    parser.add_argument(
        '--work-dir', type=Path, help='folder of all runs (default: work_dirs/compare_CONFIG)'
    )
    parser.add_argument('--gpus', type=int, default=1, help='processes of each run (default: 1)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings to override')


def run(args: argparse.Namespace) -> None:
    """Compare and print."""
    from mmengine.config import Config

    from mcl_mm.config import find_config
    from mcl_mm.evaluation.compare_transfer import compare_starts, starts_with_room, table

    for name in ('seeds', 'gpus'):
        if getattr(args, name) < 1:
            raise ValueError(f'--{name} must be at least 1, got {getattr(args, name)}')
    path = find_config(args.config)
    out = args.work_dir or Path('work_dirs') / f'compare_{Path(path).stem}'
    try:
        cfg = Config.fromfile(path)
        cfg.merge_from_dict(args.cfg_options or {})
        starts = starts_with_room(cfg, args.weights, args.starts)
        results = compare_starts(cfg, args.weights, starts, args.seeds, out, args.gpus)
    except Exception as error:  # configs are code, and raise anything
        sys.exit(f'{type(error).__name__}: {error}')
    print(f'\n{args.seeds} seed(s), mean ± standard deviation\n{table(results)}')
    print(f'\n{out / "comparison.json"}, {out / "comparison.png"}')
