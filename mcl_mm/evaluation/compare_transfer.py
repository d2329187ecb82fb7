"""One detector, several starts: does pre-training help, and which part of it?"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mcl_mm.transfer import check_load, read_checkpoint
from mcl_mm.transfer.detector.fit import PARTS, carry
from mcl_mm.transfer.detector.load_report import compare
from mcl_mm.transfer.detector.settings import build, scope_of

from .charts import plt
from .run_log import read_scalars
from .runs import (
    announce,
    check_evaluates,
    check_room,
    fill,
    headline,
    is_done,
    rehearse,
    spread,
    start_from,
    train,
    write_config,
)

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
        OSError, ValueError: The weights do not belong to the detector, or it has room for no start.
    """
    model = build(cfg.model, scope_of(cfg))
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
    found = {name: parts for name, parts in starts.items() if name in wanted}
    if not found:
        raise ValueError(
            f'none of the starts {", ".join(wanted)} is left: this detector can start from '
            f'{", ".join(starts)}'
        )
    return found


def compare_starts(
    cfg: Config, weights: str, starts: dict[str, tuple[str, ...]], seeds: int, out: Path, gpus: int
) -> dict[str, list[dict[str, float]]]:
    """Fine-tune from each start with each seed; runs that are done are taken as they are.

    Leaves ``comparison.json`` and ``comparison.png``.

    Args:
        cfg (Config): The detector's.
        weights (str): An export.
        starts (dict[str, tuple[str, ...]]): From :func:`starts_with_room`.
        seeds (int): Runs from each.
        out (Path): Folder of all runs.
        gpus (int): Processes of each run.

    Returns:
        dict[str, list[dict[str, float]]]: Metrics of the last evaluation, per start and seed.

    Raises:
        OSError, ValueError: It would fail. Before the first run, as far as that can be told.
        RuntimeError: A run has failed.
    """
    runs, digest = plan_runs(cfg, weights, starts, seeds, out)
    found = []
    for (start, seed), folder in runs.items():
        print(f'== {start}, seed {seed}', flush=True)
        announce(folder, digest)
        found.append(train(folder, digest, gpus))
    return conclude(cfg, weights, runs, found, out)


def plan_runs(
    cfg: Config, weights: str, starts: dict[str, tuple[str, ...]], seeds: int, out: Path
) -> tuple[dict[tuple[str, int], Path], str]:
    """Write the config of each run, and check what all of them will need.

    Args:
        cfg, weights, starts, seeds, out: As for :func:`compare_starts`.

    Returns:
        tuple[dict[tuple[str, int], Path], str]: The folders by start and seed, and what identifies the
        weights.

    Raises:
        OSError, ValueError: A run would fail.
    """
    check_evaluates(cfg)
    digest = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    runs = {
        (start, seed): out / f'{start.strip("+")}-{seed}'
        for seed in range(seeds)
        for start in starts
    }
    check_room(out, 0)
    for (start, seed), folder in runs.items():
        write_config(start_from(cfg, starts[start], weights), folder / 'config.py', seed)
    left = [run for run, folder in runs.items() if not is_done(folder, digest)]
    sizes = [rehearse(runs[run] / 'config.py') for run in left if run[1] == left[0][1]]
    check_room(out, max(sizes, default=0) * len(left))
    return runs, digest


def conclude(
    cfg: Config,
    weights: str,
    runs: dict[tuple[str, int], Path],
    found: list[dict[str, float]],
    out: Path,
) -> dict[str, list[dict[str, float]]]:
    """Write ``comparison.json`` and ``comparison.png`` of finished runs.

    Args:
        cfg, weights, out: As for :func:`compare_starts`.
        runs (dict[tuple[str, int], Path]): Of :func:`plan_runs`.
        found (list[dict[str, float]]): What each run's last evaluation found.

    Returns:
        dict[str, list[dict[str, float]]]: Metrics per start and seed.
    """
    results, losses = defaultdict(list), defaultdict(list)
    for ((start, _), folder), result in zip(runs.items(), fill(found, cfg)):
        results[start].append(result)
        lines = read_scalars(folder)
        losses[start].append([(line['step'], line['loss']) for line in lines if 'loss' in line])
    report = dict(config=cfg.filename, weights=weights, results=results)
    report['sha256'] = hashlib.sha256(Path(weights).read_bytes()).hexdigest()
    (out / 'comparison.json').write_text(json.dumps(report, indent=1))
    plot(results, losses, out / 'comparison.png')
    return dict(results)


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
            steps, losses = zip(*points) if points else ((), ())
            axes[-1].plot(steps, losses, color=colours[index], label=label, linewidth=0.8)
    axes[-1].set(title='training', xlabel='iteration', ylabel='loss')
    axes[-1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
