"""Compare pre-training recipes: speed, cost, memory, and where a step spends its time.

    mcl-mm benchmark CONFIG [CONFIG ...]
    mcl-mm benchmark mcl_r50_100e mcl_r50_100e_fast --reference
    mcl-mm benchmark CONFIG [CONFIG ...] --images DIR --batch-size 64 --json > benchmark.json
    mcl-mm benchmark CONFIG --batch-size 32 8 64              # one recipe at several sizes
    mcl-mm benchmark CONFIG [CONFIG ...] --rounds 0           # count multiply-adds only, seconds

The configs take turns (A B A B ...), --rounds times. Each turn is a process of its own. With several batch
sizes or sides, each config takes a turn with every one. The report has the median of the rounds, their range,
and ratios to the first turn, round by round. docs/performance.md explains the rows.

The benchmark runs on a GPU if there is one. Otherwise it runs on the CPU with the settings of
tools/allocator.sh. It takes the precision and memory format that training would take with the config.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator

from .settings import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        'config', nargs='+', help='config of a pre-training run, or name of a recipe'
    )
    parser.add_argument(
        '--reference',
        action='store_true',
        help="before the configs, measure the first one with the authors' step: all sheets pass all levels "
        'of the target, too, and the step reads one level',
    )
    parser.add_argument(
        '--batch-size', type=int, nargs='+', default=[32], help='images a step (default: 32)'
    )
    parser.add_argument(
        '--side',
        type=int,
        nargs='+',
        default=[None],
        help="side of a sheet in pixels (default: the config's)",
    )
    parser.add_argument('--steps', type=int, default=5, help='timed steps of a round (default: 5)')
    parser.add_argument(
        '--rounds', type=int, default=3, help='turns of each config (default: 3; 0 only counts)'
    )
    parser.add_argument('--threads', type=int, help="threads of the CPU (default: PyTorch's)")
    parser.add_argument(
        '--images', help='folder of images (default: the command draws JPEGs of 500 x 375)'
    )
    parser.add_argument('--profile', metavar='OUT', help="folder for PyTorch's profile of a step")
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    add_settings(parser)


@contextlib.contextmanager
def stdout_for_the_report() -> Iterator[None]:
    """Meanwhile what libraries print goes to stderr, that of processes of their own too."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def run(args: argparse.Namespace) -> None:
    """Measure and print."""
    with contextlib.redirect_stdout(
        sys.stderr
    ):  # --json has the output to itself; mmpretrain prints
        from mcl_mm.evaluation.benchmark import Plan, benchmark
        from mcl_mm.evaluation.benchmark_report import table

    plan = Plan(
        args.config,
        args.cfg_options or {},
        args.reference,
        args.batch_size,
        args.side,
        args.steps,
        args.rounds,
        args.threads,
        args.images,
        args.profile,
    )
    try:
        with stdout_for_the_report():
            report = benchmark(plan)
    except (RuntimeError, FloatingPointError, MemoryError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
    if args.json:
        print(json.dumps(report, indent=1))
        return
    print(
        '{command}\n{device}, {cores} cores, {threads} threads, PyTorch {torch}; {sizes} images a '
        'step, {steps} steps a round; median (range) of the rounds\n'.format(
            sizes=', '.join(map(str, args.batch_size)), **report
        )
    )
    print(table([c['name'] for c in report['candidates']], report['candidates']))
