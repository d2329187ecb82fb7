"""Several ways of pre-training on the same images: what does a detector make of each?"""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from mmengine.config import Config

from mcl_mm.files import write_text
from mcl_mm.reading import building
from mcl_mm.transfer.detector.fit import PARTS

from .charts import plt, save
from .ledger import Record
from .methods import Method
from .metrics import fill, headline, spread
from .records import Book, Finetunings
from .run_log import images_per_second
from .runs import (
    Run,
    call,
    check_evaluates,
    check_room,
    rehearse,
    train,
    train_here,
    write_config,
)
from .starts import RANDOM, Start, start_from


class Records(NamedTuple):
    """What a ledger has, or will have, of a comparison.

    Attributes:
        pretrainings (dict[str, dict[int, Record]]): By method and seed.
        finetunings (Finetunings): Of the detector.
    """

    pretrainings: dict[str, dict[int, Record]]
    finetunings: Finetunings

    def of(self, start: Start, seed: int) -> tuple[Optional[Record], Record]:
        """Of a start's pre-training, if it is a method's, and of its fine-tuning."""
        if start.name not in self.pretrainings:
            return None, self.finetunings.record(start, seed)
        before = self.pretrainings[start.name][seed]
        return before, self.finetunings.record(start, seed, before.facts['identity'])


def compare_methods(
    methods: list[Method],
    detector: Config,
    seeds: Sequence[int],
    out: Path,
    gpus: int,
    about: dict,
    others: Optional[dict[str, Start]] = None,
    book: Optional[Book] = None,
) -> dict[str, dict]:
    """Pre-train, export and fine-tune by each method with each seed, and fine-tune from other starts.

    Runs that are done are taken as they are. Leaves ``comparison.json`` and ``comparison.png``.

    Args:
        methods (list[Method]): From :func:`prepare`, of the lengths wanted.
        detector (Config): The detector's.
        seeds (Sequence[int]): Of the runs of each.
        out (Path): Folder of all runs.
        gpus (int): Processes of each run.
        about (dict): What ``comparison.json`` tells of the comparison, beside the results.
        others (dict[str, Start], optional): Beside random weights, from :func:`named_starts`.
        book (Book, optional): The ledger. Defaults to None.

    Returns:
        dict[str, dict]: See :func:`table`.

    Raises:
        OSError, ValueError: It would fail. Before the first run, as far as that can be told.
        RuntimeError: A run has failed.
    """
    with building(detector.filename):
        check_evaluates(detector)
    check_room(out, 0)
    by_name = {method.name: method for method in methods}
    starts = all_starts(methods, others or {})
    records = make_records(book, methods, detector, seeds, gpus) if book else None
    rehearse_all(by_name, starts, detector, seeds, out, gpus, records)
    rows = {name: dict(metrics=[]) for name in starts}
    for method in methods:
        rows[method.name].update(images_per_second=[], images=method.images, cost=method.cost)
    for seed in seeds:
        for name, start in starts.items():
            print(f'== {name}, seed {seed}', flush=True)
            method, folder = by_name.get(name), out / f'{name}-{seed}'
            rate, metrics = try_start(method, start, detector, seed, folder, gpus, records)
            rows[name]['metrics'].append(metrics)
            if method:
                rows[name]['images_per_second'].append(rate)
    fill_rows(rows, detector)
    write_text(out / 'comparison.json', json.dumps(dict(about, results=rows), indent=1))
    plot(rows, out / 'comparison.png')
    return rows


def all_starts(methods: list[Method], others: dict[str, Start]) -> dict[str, Start]:
    """Random weights, the given files and, with no file yet, the methods.

    Raises:
        ValueError: Two have one name.
    """
    names = [method.name for method in methods]
    if double := others.keys() & {*names}:
        raise ValueError(f'a method and a start are both called {", ".join(double)}')
    return {RANDOM: Start(), **others, **{name: Start(name, '', PARTS) for name in names}}


def make_records(
    book: Book, methods: list[Method], detector: Config, seeds: Sequence[int], gpus: int
) -> Records:
    """What the ledger has, or will have, of all runs."""
    before = {method.name: book.pretrainings(method, seeds, gpus) for method in methods}
    return Records(before, book.finetunings(detector, gpus))


def fill_rows(rows: dict[str, dict], detector: Config) -> None:
    """See :func:`fill`."""
    filled = iter(fill([run for row in rows.values() for run in row['metrics']], detector))
    for row in rows.values():
        row['metrics'] = [next(filled) for _ in row['metrics']]


def try_start(
    method: Optional[Method],
    start: Start,
    detector: Config,
    seed: int,
    folder: Path,
    gpus: int,
    records: Optional[Records],
) -> tuple[Optional[float], dict[str, float]]:
    """Pre-train if the start is a method's, and fine-tune; nothing of it if the ledger has the result.

    Returns:
        tuple[float | None, dict[str, float]]: Images a second of pre-training, and the detector's metrics.
    """
    before, record = records.of(start, seed) if records else (None, None)
    if known := record and record.entry():
        print('   finished earlier', flush=True)
        entry = (before and before.entry()) or dict(metrics={})
        return entry['metrics'].get('images_per_second'), known['metrics']
    rate = None
    if method:
        start = start._replace(weights=str(folder / 'export.pth'))
        rate = pretrain(method, seed, folder, gpus, before)
    return rate, finetune(detector, start, seed, folder, gpus, record)


def rehearse_all(
    methods: dict[str, Method],
    starts: dict[str, Start],
    detector: Config,
    seeds: Sequence[int],
    out: Path,
    gpus: int,
    records: Optional[Records] = None,
) -> None:
    """Find out whether any of the runs would fail, or the disk would be full.

    Raises:
        OSError, ValueError: Why.
    """
    needed, of_detector = 0, 0
    for name, start in starts.items():
        known = records and [records.of(start, seed)[1].entry() for seed in seeds]
        if known and all(known):
            continue
        if name in methods:  # its export is not there yet; that it will fit has been checked
            folder, cfg = out / f'{name}-{seeds[0]}' / 'pretrain', methods[name].cfg
            needed += of_detector * len(seeds)
        else:
            folder, cfg = out / f'{name}-{seeds[0]}' / 'finetune', start_from(detector, start)
        write_config(cfg, folder / 'config.py', seeds[0])
        if Run(folder, start.digest(), gpus=gpus).here() is None:
            size = rehearse(folder / 'config.py')
            needed += size * len(seeds)
            of_detector = of_detector if name in methods else size
    check_room(out, needed)


def pretrain(
    method: Method, seed: int, folder: Path, gpus: int, record: Optional[Record] = None
) -> Optional[float]:
    """Pre-train and export to ``folder/export.pth``, unless that is done.

    Returns:
        float, optional: Images a second, the median of the log's lines. None if it has none.
    """
    run = Run(folder / 'pretrain', record=record, gpus=gpus)
    write_config(method.cfg, run.folder / 'config.py', seed)
    # That a ledger knows the run does not help: its weights are needed.
    run.announce(run.here())
    rate = train_here(run, images_per_second).get('images_per_second')
    # The path in the file is of where the folder was when the run ended.
    checkpoint = run.folder / Path((run.folder / 'last_checkpoint').read_text().strip()).name
    out = folder / 'export.pth'
    if not out.exists() or (
        checkpoint.exists() and out.stat().st_mtime < checkpoint.stat().st_mtime
    ):
        done = call(
            '-m', 'mcl_mm', 'export', str(checkpoint), str(out), text=True, capture_output=True
        )
        if done.returncode:
            raise RuntimeError(f'{checkpoint} cannot be exported: {done.stderr.strip()}')
    return rate


def finetune(
    detector: Config,
    start: Start,
    seed: int,
    folder: Path,
    gpus: int,
    record: Optional[Record] = None,
) -> dict[str, float]:
    """Fine-tune from a start.

    Returns:
        dict[str, float]: Metrics of the last evaluation.
    """
    run = Run(folder / 'finetune', start.digest(), record, gpus)
    write_config(start_from(detector, start), run.folder / 'config.py', seed)
    run.announce(run.result())
    return train(run)


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
    save(figure, path)
