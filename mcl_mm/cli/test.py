"""Evaluate a fine-tuned detector, or a classifier: runs the test part of an MMEngine config.

    mcl-mm test CONFIG CHECKPOINT
    mcl-mm test CONFIG CHECKPOINT --show-dir DIR     # and draw what was found in each image

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import os


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    from mmengine.config import DictAction

    parser.add_argument('config', help="a detector's config, or that of supervised pre-training")
    parser.add_argument('checkpoint', help='written by training with that config')
    parser.add_argument('--work-dir', help='where the log goes')
    parser.add_argument(
        '--show-dir',
        help='draw into this folder, one PNG an image: its labels on the left, what scores above 0.3 on '
        'the right. Of several processes, the first draws its share',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings to override')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def run(args: argparse.Namespace) -> None:
    """Evaluate."""
    from mmengine.config import Config

    from mcl_mm.config import find_config
    from mcl_mm.evaluation.png_visualizer import draw_into
    from mcl_mm.evaluation.trained import load_trained

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    path = find_config(args.config)
    cfg = Config.fromfile(path)
    cfg.merge_from_dict(args.cfg_options or {})
    name = os.path.splitext(os.path.basename(path))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', name)
    cfg.launcher = args.launcher
    if args.show_dir:
        draw_into(cfg, args.show_dir)
    load_trained(cfg, args.checkpoint, args.cfg_options).test()
