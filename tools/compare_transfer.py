"""Does pre-training help a detector, and which part of it? Fine-tune from several starts and compare.

    python tools/compare_transfer.py CONFIG EXPORT.pth [--seeds 3] [--work-dir DIR]

CONFIG is a detector's, as in configs/transfer; EXPORT.pth is written by tools/export.py. The starts, each
with what the one before it carries: random weights, the export's backbone, +neck (its FPN), +box_head (the
convs). One that the detector has no place for is left out, in words. Every run is a tools/train.py of its
own; when called again, finished runs are taken as they are. Prints a table and leaves comparison.json
and comparison.png.

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib
import numpy as np
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope

import mcl_mm  # noqa: F401  (checks the environment and registers the components)
from mcl_mm.config import type_name
from mcl_mm.transfer import check_load, read_checkpoint
from mcl_mm.transfer.detector.fit import PARTS, carry
from mcl_mm.transfer.detector.load_report import compare
from mcl_mm.transfer.detector.sources import SOURCES

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from plot_run import read_scalars

TOOLS = Path(__file__).parent
STARTS = {
    'random': (),
    'backbone': PARTS[:1],
    '+neck': PARTS[:2],
    '+box_head': PARTS,
}


def starts_with_room(
    cfg: Config, weights: str, wanted: Iterable[str] = STARTS
) -> dict[str, tuple[str, ...]]:
    """The wanted starts that differ for a detector, with the parts they carry; says which do not.

    Raises:
        ValueError: The weights do not belong to the detector.
    """
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    model = MODELS.build(cfg.model)
    state_dict = read_checkpoint(weights)['state_dict']
    check_load(model, carry(state_dict, model, PARTS))
    starts, before = {'random': ()}, 0
    for name, parts in list(STARTS.items())[1:]:
        loaded = len(compare(model, carry(state_dict, model, parts)).loaded)
        if loaded > before:
            starts[name] = parts
        elif name in wanted:
            print(f'left out: {name}, which this detector has no place for')
        before = loaded
    return {name: parts for name, parts in starts.items() if name in wanted}


def is_file(source: object) -> bool:
    """Whether an ``init_cfg``, or an older ``pretrained``, reads weights from a file."""
    if isinstance(source, (list, tuple)):
        return any(map(is_file, source))
    return isinstance(source, str) or (
        isinstance(source, dict) and type_name(source).startswith('Pretrained')
    )


def write_config(cfg: Config, start: tuple[str, ...], weights: str, seed: int, path: Path) -> None:
    """The config of one run: ``cfg`` with a start and a seed of its own."""
    cfg = Config(cfg.to_dict())
    cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    # A second source of weights would make no start what its name says.
    for part in filter(None, (cfg.model, cfg.model.backbone, cfg.model.get('neck'))):
        for one in part if isinstance(part, list) else [part]:
            for source in SOURCES:
                if is_file(one.get(source)):
                    one[source] = None
    if 'base_batch_size' in cfg.get('auto_scale_lr', {}):
        cfg.auto_scale_lr.enable = True  # the config's rate is for its own number of GPUs
    cfg.load_from = os.path.abspath(weights) if start else None
    others = [h for h in cfg.get('custom_hooks', []) if type_name(h) != 'TransferHook']
    cfg.custom_hooks = [*others, dict(type='mcl_mm.TransferHook', parts=start)] if start else others
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(path)


def last_evaluation(scalars: list[dict]) -> dict[str, float]:
    """The metrics of the last evaluation, as their evaluator logged them: ``coco/bbox_mAP`` and so on."""
    evaluations = [
        {k: v for k, v in line.items() if '/' in k and isinstance(v, (int, float))}
        for line in scalars
        if 'loss' not in line
    ]
    evaluations = [metrics for metrics in evaluations if metrics]
    if not evaluations:
        raise RuntimeError('nothing was evaluated: the config needs a val_evaluator that runs')
    return evaluations[-1]


def train(
    folder: Path,
    digest: str,
    gpus: int,
    read: Callable[[list[dict]], dict[str, float]] = last_evaluation,
) -> dict[str, float]:
    """Run ``folder/config.py``, unless that is done, and return what came out.

    Args:
        folder (Path): The run's; gets config, logs, checkpoints and ``result.json``.
        digest (str): Identifies the weights. A result of another config or weights does not count.
        gpus (int): Processes.
        read (Callable): Takes the result from the lines of the log. Defaults to
            :func:`last_evaluation`.

    Raises:
        RuntimeError: The run fails; says where its log is and how it ends.
    """
    digest = hashlib.sha256(f'{(folder / "config.py").read_text()}{digest}'.encode()).hexdigest()
    result = folder / 'result.json'
    if result.exists():
        done = json.loads(result.read_text())
        if done['digest'] == digest:
            print('   finished earlier', flush=True)
            return done['metrics']
    for earlier in folder.glob('*/vis_data'):  # of a run that was interrupted, or of other settings
        shutil.rmtree(earlier.parent)
    log = folder / 'train.log'
    launch = [sys.executable, TOOLS / 'train.py', folder / 'config.py']
    if gpus > 1:
        launch = ['bash', TOOLS / 'dist_train.sh', folder / 'config.py', gpus]
    print(f'   log: {log}', flush=True)
    with open(log, 'w') as out:
        command = list(map(str, [*launch, '--work-dir', folder]))
        code = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode
    if code:
        raise RuntimeError(
            f'{folder} ended with exit code {code}, see {log}: ' + log.read_text()[-500:]
        )
    metrics = read(read_scalars(folder))
    result.write_text(json.dumps(dict(digest=digest, metrics=metrics)))
    return metrics


def headline(names: list[str]) -> list[str]:
    """The metrics a paper would print: overall ones first by name, without sizes and thresholds."""
    chosen = [n for n in names if n.split('_')[-1].split('/')[-1] in ('mAP', 'AP', 'PQ', 'AP50')]
    return chosen or names


def spread(values: list[float]) -> str:
    """Mean and, of several values, sample standard deviation."""
    deviation = f' ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
    return f'{np.mean(values):.3f}{deviation}'


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over seeds, per start and metric, as text."""
    metrics = headline(list(next(iter(results.values()))[0]))
    lines = [f'{"start":18}' + ''.join(f'{metric:>26}' for metric in metrics)]
    for start, runs in results.items():
        cells = []
        for metric in metrics:
            cells.append(spread([run[metric] for run in runs]).rjust(26))
        lines.append(f'{start:18}' + ''.join(cells))
    return '\n'.join(lines)


def plot(results: dict[str, list[dict[str, float]]], curves: dict, path: Path) -> None:
    """The metrics per start (a dot a seed, a bar their mean) and the training losses."""
    metrics = headline(list(next(iter(results.values()))[0]))[:3]
    figure, axes = plt.subplots(1, 1 + len(metrics), figsize=(4 * (1 + len(metrics)), 3.6))
    colours = plt.get_cmap('tab10').colors
    for axis, metric in zip(axes, metrics):
        for index, runs in enumerate(results.values()):
            values = [run[metric] for run in runs]
            axis.bar(index, np.mean(values), color=colours[index], alpha=0.6)
            axis.plot([index] * len(values), values, 'k.')
        axis.set(title=metric, xticks=range(len(results)))
        axis.set_xticklabels(results, rotation=20)
    for index, (start, runs) in enumerate(curves.items()):
        for seed, points in enumerate(runs):
            label = start if seed == 0 else None
            axes[-1].plot(*zip(*points), color=colours[index], label=label, linewidth=0.8)
    axes[-1].set(title='training', xlabel='iteration', ylabel='loss')
    axes[-1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help="a detector's config")
    parser.add_argument('weights', help='written by tools/export.py')
    parser.add_argument('--seeds', type=int, default=3, help='runs from each start (default: 3)')
    parser.add_argument(
        '--starts', nargs='+', choices=STARTS, default=list(STARTS), help='default: all'
    )
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/compare_CONFIG')
    parser.add_argument('--gpus', type=int, default=1, help='processes of each run')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings to override')
    args = parser.parse_args()
    out = args.work_dir or Path('work_dirs') / f'compare_{Path(args.config).stem}'
    try:
        if args.seeds < 1:
            raise ValueError(f'--seeds must be at least 1, got {args.seeds}')
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        starts = starts_with_room(cfg, args.weights, args.starts)
        digest = hashlib.sha256(Path(args.weights).read_bytes()).hexdigest()
        results = {start: [] for start in starts}
        folders = {start: [] for start in starts}
        for seed in range(args.seeds):
            for start, parts in starts.items():
                print(f'== {start}, seed {seed}', flush=True)
                folder = out / f'{start.strip("+")}-{seed}'
                write_config(cfg, parts, args.weights, seed, folder / 'config.py')
                results[start].append(train(folder, digest, args.gpus))
                folders[start].append(folder)
    except Exception as error:  # configs are code, and raise anything
        sys.exit(f'{type(error).__name__}: {error}')
    curves = {
        start: [
            [(line['step'], line['loss']) for line in read_scalars(folder) if 'loss' in line]
            for folder in runs
        ]
        for start, runs in folders.items()
    }
    plot(results, curves, out / 'comparison.png')
    report = dict(config=args.config, weights=args.weights, sha256=digest, results=results)
    (out / 'comparison.json').write_text(json.dumps(report, indent=1))
    print(f'\n{args.seeds} seed(s), mean ± standard deviation\n{table(results)}')
    print(f'\n{out / "comparison.json"}, {out / "comparison.png"}')


if __name__ == '__main__':
    main()
