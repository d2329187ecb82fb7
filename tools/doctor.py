"""Tell what a detector would load from a file of weights, and what in its config spoils that.

    python tools/doctor.py CONFIG WEIGHTS
    python tools/doctor.py CONFIG WEIGHTS --json > diagnosis.json

No data is needed and nothing is trained. WEIGHTS may be left out where the config has `load_from`. Exit code:
0 all that is expected loads (there may still be traps), 1 the config or the weights cannot be read or built,
2 wrong usage, 3 nothing, or less than expected, would load. docs/doctor.md explains each finding.

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import contextlib
import json
import sys
from typing import Optional

from mmengine.config import Config, DictAction
from mmengine.registry import HOOKS, MODELS, init_default_scope

import mcl_mm  # noqa: F401  (checks the environment and registers the components)
from mcl_mm.transfer import Diagnosis, diagnose, read_checkpoint
from mcl_mm.transfer.traps import type_name


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config of a detector')
    parser.add_argument('weights', nargs='?', help="default the config's load_from")
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument(
        '--processes',
        type=int,
        help="GPUs that will train; default as many as the config's base_batch_size takes",
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings to override')
    return parser.parse_args()


def carried_parts(cfg: Config) -> Optional[tuple[str, ...]]:
    """What the config's TransferHook carries; None if it has no such hook."""
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook) == 'TransferHook':
            hook = {key: value for key, value in hook.items() if key != 'priority'}
            return HOOKS.build(dict(hook, type='mcl_mm.TransferHook')).parts
    return None


def planned_processes(cfg: Config) -> int:
    """For how many processes a config was written."""
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size') or 0
    per_process = (cfg.get('train_dataloader') or {}).get('batch_size') or 1
    return max(1, base // per_process)


def examine(args: argparse.Namespace) -> tuple[dict, Diagnosis]:
    """What was examined, and the outcome."""
    from mmdet.models import BaseDetector  # here, for what it prints

    cfg = Config.fromfile(args.config)
    cfg.merge_from_dict(args.cfg_options or {})
    path = args.weights or cfg.get('load_from')
    if not path:
        raise ValueError(f'which weights? {args.config} has no load_from')
    if not cfg.get('model'):
        raise ValueError(f'{args.config} has no model')
    checkpoint = read_checkpoint(path)
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    model = MODELS.build(cfg.model)
    if not isinstance(model, BaseDetector):
        raise ValueError(f'{args.config} is not the config of a detector: {type(model).__name__}')
    processes = args.processes or planned_processes(cfg)
    facts = dict(schema=1, config=args.config, weights=path, processes=processes)
    return facts, diagnose(model, checkpoint, cfg, carried_parts(cfg), processes)


def main() -> None:
    args = parse_args()
    try:
        # Libraries print while they are imported and built; --json has the output to itself.
        with contextlib.redirect_stdout(sys.stderr):
            facts, diagnosis = examine(args)
    except Exception as error:  # a config is code, and so is what it builds
        sys.exit(f'{type(error).__name__}: {error}')
    if args.json:
        print(json.dumps({**facts, **diagnosis.to_dict()}, indent=1))
    else:
        print('{weights} in {config}, {processes} process(es)'.format(**facts))
        print(diagnosis.text())
    sys.exit(3 if diagnosis.errors else 0)


if __name__ == '__main__':
    main()
