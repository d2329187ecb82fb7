"""Pre-train, or fine-tune a detector, with an MMEngine config.

    mcl-mm train mcl_r50_small --data DIR      a recipe that comes with the package, on your images
    mcl-mm train my_config.py                  a config of your own
    mcl-mm train my_config.py --resume         go on where it stopped, or begin

You may stop a pre-training run with SIGTERM, SIGUSR1 or Ctrl-C. It saves a checkpoint after the current
update and exits with code 75. Start it again with --resume: it ends as if nobody had stopped it. Exit code 1
means an error.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
import os
import sys

import mcl_mm  # noqa: F401  (checks the environment and registers the components)
from mcl_mm.config import find_config
from mcl_mm.engine import run as engine
from mcl_mm.reading import building

from .settings import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument('config', help='config file, or the name of a recipe (mcl-mm configs)')
    parser.add_argument(
        '--data', help='folder of images: the same as train_dataloader.dataset.data_root'
    )
    parser.add_argument('--work-dir', help='where logs and checkpoints go')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint; without a path, from the newest one of the run',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: on a GPU, or bfloat16 on a CPU with AMX',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the batch size, relative to the config's base_batch_size",
    )
    add_settings(parser)
    add_launcher(parser)


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add what launchers of several processes set."""
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='program that has started several processes (default: none)',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='older launchers set it'
    )


def run(args: argparse.Namespace) -> None:
    """Train."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    options = dict(args.cfg_options or {})
    if args.data is not None:
        options['train_dataloader.dataset.data_root'] = args.data
    with building(args.config):
        cfg = engine.load_config(find_config(args.config), args.work_dir, options, args.launcher)
        if args.amp:
            engine.use_mixed_precision(cfg)
        if args.auto_scale_lr:
            engine.scale_learning_rate(cfg)
        engine.adapt_to_machine(cfg, options)
        runner = engine.start(cfg, args.resume)
    try:
        with building(args.config):  # what MMEngine builds last: optimiser and schedule
            engine.train(runner)
    except engine.RunError as error:
        sys.exit(str(error))
