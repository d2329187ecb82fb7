"""One detector, several starts: does pre-training help, and which part of it?"""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np
from mmengine.config import Config

from mcl_mm.files import write_text
from mcl_mm.reading import building

from .charts import plt, save
from .metrics import fill, headline, spread
from .records import Book
from .run_log import read_scalars
from .runs import (
    Run,
    check_evaluates,
    check_room,
    rehearse,
    train,
    write_config,
)
from .starts import Start, start_from


def compare_starts(
    cfg: Config,
    starts: dict[str, Start],
    seeds: Sequence[int],
    out: Path,
    gpus: int,
    book: Optional[Book] = None,
) -> dict[str, list[dict[str, float]]]:
    """Fine-tune from each start with each seed; runs that are done are taken as they are.

    Leaves ``comparison.json`` and ``comparison.png``.

    Args:
        cfg (Config): The detector's.
        starts (dict[str, Start]): By name, from :func:`starts_with_room` and :func:`named_starts`.
        seeds (Sequence[int]): Of the runs from each start.
        out (Path): Folder of all runs.
        gpus (int): Processes of each run.
        book (Book, optional): The ledger. Defaults to None.

    Returns:
        dict[str, list[dict[str, float]]]: Metrics of the last evaluation, per start and seed.

    Raises:
        OSError, ValueError: It would fail. Before the first run, as far as that can be told.
        RuntimeError: A run has failed.
    """
    runs = plan_runs(cfg, starts, seeds, out, gpus, book)
    found = []
    for (start, seed), run in runs.items():
        print(f'== {start}, seed {seed}', flush=True)
        run.announce(run.result())
        found.append(train(run))
    return conclude(cfg, starts, runs, found, out)


def plan_runs(
    cfg: Config,
    starts: dict[str, Start],
    seeds: Sequence[int],
    out: Path,
    gpus: int = 1,
    book: Optional[Book] = None,
) -> dict[tuple[str, int], Run]:
    """Write the config of each run, and check what all of them will need.

    Args:
        cfg, starts, seeds, out, gpus, book: As for :func:`compare_starts`.

    Returns:
        dict[tuple[str, int], Run]: By start and seed.

    Raises:
        OSError, ValueError: A run would fail.
    """
    with building(cfg.filename):
        check_evaluates(cfg)
    check_room(out, 0)
    known = book.finetunings(cfg, gpus) if book else None
    runs = {}
    for seed in seeds:
        for name, start in starts.items():
            folder = out / f'{name.strip("+")}-{seed}'
            write_config(start_from(cfg, start), folder / 'config.py', seed)
            runs[name, seed] = Run(
                folder, start.digest(), known and known.record(start, seed), gpus
            )
    left = [key for key, run in runs.items() if run.result() is None]
    sizes = [rehearse(runs[key].folder / 'config.py') for key in left if key[1] == left[0][1]]
    check_room(out, max(sizes, default=0) * len(left))
    return runs


def conclude(
    cfg: Config,
    starts: dict[str, Start],
    runs: dict[tuple[str, int], Run],
    found: list[dict[str, float]],
    out: Path,
) -> dict[str, list[dict[str, float]]]:
    """Write ``comparison.json`` and ``comparison.png`` of finished runs.

    Args:
        cfg, starts, out: As for :func:`compare_starts`.
        runs (dict[tuple[str, int], Run]): Of :func:`plan_runs`.
        found (list[dict[str, float]]): What each run's last evaluation found.

    Returns:
        dict[str, list[dict[str, float]]]: Metrics per start and seed.
    """
    results, losses = defaultdict(list), defaultdict(list)
    for ((name, _), run), result in zip(runs.items(), fill(found, cfg)):
        results[name].append(result)
        # A run that a ledger knows may have been done elsewhere, and its log be there.
        lines = read_scalars(run.folder) if run.here() else []
        losses[name].append([(line['step'], line['loss']) for line in lines if 'loss' in line])
    files = {
        name: dict(weights=start.weights, sha256=start.digest()) for name, start in starts.items()
    }
    seeds = list(dict.fromkeys(seed for _, seed in runs))
    report = dict(config=cfg.filename, seeds=seeds, starts=files, results=results)
    write_text(out / 'comparison.json', json.dumps(report, indent=1))
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
    for axis, metric in zip(axes, metrics):
        for index, runs in enumerate(results.values()):
            values = [run[metric] for run in runs]
            axis.bar(index, np.mean(values), color=f'C{index}', alpha=0.6)
            axis.plot([index] * len(values), values, 'k.')
        axis.set(title=metric, xticks=range(len(results)))
        axis.set_xticklabels(results, rotation=20)
    for index, (start, runs) in enumerate(curves.items()):
        for seed, points in enumerate(runs):
            label = start if seed == 0 else None
            steps, losses = zip(*points) if points else ((), ())
            axes[-1].plot(steps, losses, color=f'C{index}', label=label, linewidth=0.8)
    axes[-1].set(title='training', xlabel='iteration', ylabel='loss')
    axes[-1].legend()
    figure.tight_layout()
    save(figure, path)
