"""Several ways of pre-training on the same images: what does a detector make of each?"""

import hashlib
import json
import statistics
from pathlib import Path
from typing import Optional

import numpy as np
from mmengine.config import Config

from mcl_mm.transfer.detector.fit import PARTS

from .charts import plt
from .methods import RANDOM, Method
from .run_log import images_per_second
from .runs import (
    announce,
    call,
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


def compare_methods(
    methods: list[Method], detector: Config, seeds: int, out: Path, gpus: int, about: dict
) -> dict[str, dict]:
    """Pre-train, export and fine-tune by each method with each seed, and fine-tune from random weights.

    Runs that are done are taken as they are. Leaves ``comparison.json`` and ``comparison.png``.

    Args:
        methods (list[Method]): From :func:`prepare`, of the lengths wanted.
        detector (Config): The detector's.
        seeds (int): Runs of each.
        out (Path): Folder of all runs.
        gpus (int): Processes of each run.
        about (dict): What ``comparison.json`` tells of the comparison, beside the results.

    Returns:
        dict[str, dict]: See :func:`table`.

    Raises:
        OSError, ValueError: It would fail. Before the first run, as far as that can be told.
        RuntimeError: A run has failed.
    """
    rehearse_all(methods, detector, seeds, out)
    rows = {RANDOM: dict(metrics=[])}
    for method in methods:
        rows[method.name] = dict(
            metrics=[], images_per_second=[], images=method.images, cost=method.cost
        )
    by_name = {method.name: method for method in methods}
    for seed in range(seeds):
        for name, row in rows.items():
            print(f'== {name}, seed {seed}', flush=True)
            folder = out / f'{name}-{seed}'
            if name in by_name:
                row['images_per_second'].append(pretrain(by_name[name], seed, folder, gpus))
            row['metrics'].append(finetune(detector, seed, folder, gpus))
    filled = iter(fill([run for row in rows.values() for run in row['metrics']], detector))
    for row in rows.values():
        row['metrics'] = [next(filled) for _ in row['metrics']]
    (out / 'comparison.json').write_text(json.dumps(dict(about, results=rows), indent=1))
    plot(rows, out / 'comparison.png')
    return rows


def rehearse_all(methods: list[Method], detector: Config, seeds: int, out: Path) -> None:
    """Find out whether any of the runs would fail, or the disk would be full.

    Raises:
        OSError, ValueError: Why.
    """
    check_evaluates(detector)
    check_room(out, 0)
    needed = 0
    for method in methods:
        path = out / f'{method.name}-0' / 'pretrain' / 'config.py'
        write_config(method.cfg, path, 0)
        if not is_done(path.parent):
            needed += rehearse(path) * seeds
    path = out / f'{RANDOM}-0' / 'finetune' / 'config.py'
    write_config(start_from(detector, (), ''), path, 0)
    if not is_done(path.parent):
        needed += rehearse(path) * seeds * (1 + len(methods))
    check_room(out, needed)


def pretrain(method: Method, seed: int, folder: Path, gpus: int) -> Optional[float]:
    """Pre-train and export to ``folder/export.pth``, unless that is done.

    Returns:
        float, optional: Images a second, the median of the log's lines. None if it has none.
    """
    work_dir = folder / 'pretrain'
    write_config(method.cfg, work_dir / 'config.py', seed)
    announce(work_dir)
    rate = train(work_dir, '', gpus, images_per_second).get('images_per_second')
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    out = folder / 'export.pth'
    if not out.exists() or out.stat().st_mtime < checkpoint.stat().st_mtime:
        done = call(
            '-m', 'mcl_mm', 'export', str(checkpoint), str(out), text=True, capture_output=True
        )
        if done.returncode:
            raise RuntimeError(f'{checkpoint} cannot be exported: {done.stderr.strip()}')
    return rate


def finetune(detector: Config, seed: int, folder: Path, gpus: int) -> dict[str, float]:
    """Fine-tune from ``folder/export.pth``, from random weights if there is none.

    Returns:
        dict[str, float]: Metrics of the last evaluation.
    """
    export, work_dir = folder / 'export.pth', folder / 'finetune'
    parts = PARTS if export.exists() else ()
    digest = hashlib.sha256(export.read_bytes()).hexdigest() if parts else ''
    write_config(start_from(detector, parts, str(export)), work_dir / 'config.py', seed)
    announce(work_dir, digest)
    return train(work_dir, digest, gpus)


def table(rows: dict[str, dict]) -> str:
    """The comparison in Markdown.

    Args:
        rows (dict[str, dict]): Per method ``metrics`` (a list, one dict a seed), ``images_per_second``
            (likewise), ``images`` (int) and ``cost`` (multiply-adds per image); for random weights
            ``metrics`` alone.
    """
    metrics = headline(list(rows[RANDOM]['metrics'][0]))
    lines = [
        ['start', *metrics, 'images seen', 'G multiply-adds an image', 'T in all', 'images/s'],
        ['---'] * (len(metrics) + 5),
    ]
    for name, row in rows.items():
        line = [name, *(spread([run[metric] for run in row['metrics']]) for metric in metrics)]
        if 'cost' in row:
            rates = [rate for rate in row['images_per_second'] if rate is not None]
            line += [f'{row["images"]:,}', f'{row["cost"] / 1e9:.3g}']
            rate = f'{statistics.mean(rates):.3g}' if rates else ''
            line += [f'{row["images"] * row["cost"] / 1e12:.3g}', rate]
        lines.append(line + [''] * (len(metrics) + 5 - len(line)))
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def plot(rows: dict[str, dict], path: Path) -> None:
    """Every metric against the multiply-adds spent: a dot a seed, a bar their mean."""
    metrics = headline(list(rows[RANDOM]['metrics'][0]))[:3]
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(5.5 * len(metrics), 4), squeeze=False, layout='constrained'
    )
    for axis, metric in zip(axes[0], metrics):
        for index, (name, row) in enumerate(rows.items()):
            values = [run[metric] for run in row['metrics']]
            spent = row.get('images', 0) * row.get('cost', 0) / 1e12
            colour = f'C{index}'
            axis.plot([spent] * len(values), values, '.', color=colour, alpha=0.5)
            axis.plot(spent, np.mean(values), '_', color=colour, markersize=18, label=name)
        axis.set(title=metric, xlabel='multiply-adds of pre-training, T')
    axes[0][-1].legend(fontsize='small')
    figure.savefig(path, dpi=110)
    plt.close(figure)
