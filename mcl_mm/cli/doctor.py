"""Say what a detector would load from a file of weights, and what in its config spoils them.

    mcl-mm doctor CONFIG WEIGHTS
    mcl-mm doctor CONFIG WEIGHTS --processes 1      on one GPU
    mcl-mm doctor CONFIG WEIGHTS --json > diagnosis.json

The command needs no data and trains nothing. You may leave out WEIGHTS if the config has load_from, or a part
that starts from a file (init_cfg). docs/doctor.md explains each finding.

Exit codes:

    0    all that is expected loads; there may still be traps
    1    the config or the weights cannot be read or built
    2    wrong usage
    3    nothing, or less than expected, would load

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse
import contextlib
import json
import sys

from .settings import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument('config', help='config of a detector')
    parser.add_argument(
        'weights',
        nargs='?',
        help='file of weights (default: the file that the config names, in load_from or init_cfg)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument(
        '--processes',
        type=int,
        metavar='N',
        help="GPUs that you will train on (default: as many as the config's base_batch_size takes, else 8)",
    )
    add_settings(parser)


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis; returns the exit code."""
    from mcl_mm.transfer.detector.examine import examine

    try:
        # Libraries print while they are imported and built; --json has the output to itself.
        with contextlib.redirect_stdout(sys.stderr):
            examined = examine(args.config, args.weights, args.cfg_options, args.processes)
    except Exception as error:  # a config is code, and so is what it builds
        sys.exit(f'{type(error).__name__}: {error}')
    print(json.dumps(examined.to_dict(), indent=1) if args.json else examined.text())
    return 3 if examined.diagnosis.errors else 0
