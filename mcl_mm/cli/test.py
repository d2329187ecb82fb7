"""Evaluate a fine-tuned detector or a classifier.

    mcl-mm test CONFIG CHECKPOINT
    mcl-mm test CONFIG CHECKPOINT --show-dir DIR     # draw what was found in each image, too

The command runs the test part of an MMEngine config.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
import os

from .settings import add_settings
from .train import add_launcher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        'config', help="a detector's config, or a config of supervised pre-training"
    )
    parser.add_argument('checkpoint', help='checkpoint of a training with that config')
    parser.add_argument('--work-dir', help='where the log goes')
    parser.add_argument(
        '--show-dir',
        help='draw into this folder, one PNG an image: labels on the left, detections with a score above '
        '0.3 on the right. With several processes, only the first draws its share',
    )
    add_settings(parser)
    add_launcher(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate."""
    from mcl_mm.config import find_config
    from mcl_mm.evaluation.png_visualizer import draw_into
    from mcl_mm.evaluation.trained import load_trained
    from mcl_mm.reading import building, read_config

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    path = find_config(args.config)
    cfg = read_config(path, args.cfg_options)
    name = os.path.splitext(os.path.basename(path))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', name)
    cfg.launcher = args.launcher
    with building(args.config):
        if args.show_dir:
            draw_into(cfg, args.show_dir)
        runner = load_trained(cfg, args.checkpoint, args.cfg_options)
    runner.test()
