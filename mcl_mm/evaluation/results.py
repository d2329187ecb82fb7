"""A page of tables and plots, drawn from ledgers of finished runs."""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from mcl_mm.files import write_text

from .charts import plt, save
from .ledger import read_ledger
from .runs import headline, spread
from .starts import RANDOM

BEGIN, END = '<!-- drawn from the ledger: begin -->', '<!-- drawn from the ledger: end -->'
NEW_PAGE = f'# Results\n\n{BEGIN}\n{END}\n'


class Row(NamedTuple):
    """Runs of one detector that differ in nothing but seed and list of labels.

    Attributes:
        labels (int): Labelled images.
        start (str): What they started from.
        spent (float, optional): Multiply-adds of the pre-training; 0 for random weights, None where the
            ledger does not know.
        runs (list[dict]): Entries of the fine-tunings.
        before (list[dict]): Entries of their pre-trainings that the ledger has.
    """

    labels: int
    start: str
    spent: Optional[float]
    runs: list[dict]
    before: list[dict]

    def values(self, metric: str) -> list[float]:
        """A metric of all runs; one that was not logged is 0, for nothing was detected."""
        return [run['metrics'].get(metric, 0.0) for run in self.runs]


class Group(NamedTuple):
    """Runs of one detector, evaluated on the same images.

    Attributes:
        detector (str): Its name.
        val (dict): The images it was evaluated on: ``name``, ``images``, ``digest``.
        rows (list[Row]): Fewest labels first, then least compute.
        metrics (list[str]): The ones to show.
    """

    detector: str
    val: dict
    rows: list[Row]
    metrics: list[str]


def group(entries: list[dict]) -> list[Group]:
    """Sort the entries of ledgers into tables.

    Args:
        entries (list[dict]): Of all ledgers, each identity once.
    """
    pretrainings = {e['identity']: e for e in entries if e['kind'] == 'pretrain'}
    tables = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if entry['kind'] != 'finetune':
            continue
        origin = entry['origin']
        before = pretrainings.get(origin.get('pretraining'))
        # Runs of a start count together whatever their seeds, which make weights of their own.
        kind = before['config'] if before else origin.get('weights', '')
        key = entry['train']['images'], entry['start'], kind, entry['images_seen']
        tables[entry['detector'], entry['config'], entry['val']['digest']][key].append(entry)
    groups = []
    for (detector, *_), found in sorted(tables.items()):
        rows = [make_row(runs, pretrainings) for runs in found.values()]
        rows.sort(key=lambda row: (row.labels, row.spent or 0, row.start != RANDOM, row.start))
        runs = [run for row in rows for run in row.runs]
        names = list(dict.fromkeys(name for run in runs for name in run['metrics']))
        shown = [n for n in names if n in headline(names) or n.endswith('_50')]
        groups.append(Group(detector, runs[0]['val'], rows, shown))
    return groups


def make_row(runs: list[dict], pretrainings: dict[str, dict]) -> Row:
    """One row of a table from its runs."""
    origins = [run['origin'] for run in runs]
    before = [
        pretrainings[origin['pretraining']]
        for origin in origins
        if origin.get('pretraining') in pretrainings
    ]
    spent = None
    if before:
        spent = before[0]['multiply_adds']
    elif not any('weights' in origin or 'pretraining' in origin for origin in origins):
        spent = 0.0
    return Row(runs[0]['train']['images'], runs[0]['start'], spent, runs, before)


def table(group: Group) -> str:
    """The results of one detector in Markdown."""
    titles = ['labelled images', 'start', 'runs', *group.metrics]
    titles += ['pre-training: images seen', 'T multiply-adds', 'minutes', 'fine-tuning: minutes']
    lines = [titles, ['---'] * len(titles)]
    for row in group.rows:
        cells = [f'{row.labels:,}', row.start, str(len(row.runs))]
        cells += [spread(row.values(metric)) for metric in group.metrics]
        cells += [f'{row.before[0]["images_seen"]:,}' if row.before else '']
        cells += ['' if row.spent is None else f'{row.spent / 1e12:.3g}']
        cells += [minutes(row.before), minutes(row.runs)]
        lines.append(cells)
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def minutes(entries: list[dict]) -> str:
    """The mean of what runs took; empty if no run says."""
    known = [entry['minutes'] for entry in entries if entry['minutes'] is not None]
    return f'{statistics.mean(known):.1f}' if known else ''


AXES = {
    'labelled images': lambda row: row.labels,
    'multiply-adds of pre-training, T': lambda row: row.spent and row.spent / 1e12,
}


def draw(group: Group, path: Path) -> bool:
    """Plot each metric over labelled images and over compute, where a start has several of either.

    Where none has, a line for each row has its runs as dots, their mean and deviation.

    Returns:
        bool: Whether there was anything to compare.
    """
    if len(group.rows) < 2:
        return False
    wanted = [
        (label, metric)
        for label, x in AXES.items()
        if any(len({at for at, _, _ in points}) > 1 for points in curves(group, x, '').values())
        for metric in group.metrics
    ]
    count = len(wanted or group.metrics)
    size = (4.5 * count, 3.8 if wanted else 1.2 + 0.35 * len(group.rows))
    figure, axes = plt.subplots(1, count, figsize=size, squeeze=False, layout='constrained')
    for axis, (label, metric) in zip(axes[0], wanted):
        for start, points in curves(group, AXES[label], metric).items():
            axis.errorbar(*zip(*sorted(points)), marker='o', capsize=3, label=start)
        axis.set(xlabel=label, ylabel=metric)
    if wanted:
        axes[0][-1].legend(fontsize='small')
    else:
        for axis, metric in zip(axes[0], group.metrics):
            draw_rows(axis, group, metric)
    save(figure, path, metadata=dict(Software=None))
    return True


def curves(group: Group, x: Callable, metric: str) -> dict[str, list[tuple[float, float, float]]]:
    """Places on an axis, means and deviations of a metric, per start."""
    found = defaultdict(list)
    for row in group.rows:
        if x(row) is not None:
            found[row.start].append((x(row), *mean_and_deviation(row.values(metric))))
    return found


def mean_and_deviation(values: list[float]) -> tuple[float, float]:
    """Of a sample; a single value has no deviation."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def draw_rows(axis: plt.Axes, group: Group, metric: str) -> None:
    """Each row of a table as a line of dots, the first one at the top."""
    several = len({row.labels for row in group.rows}) > 1
    for place, row in enumerate(reversed(group.rows)):
        values = row.values(metric)
        mean, deviation = mean_and_deviation(values)
        axis.plot(values, [place] * len(values), '.', color='C0', alpha=0.4)
        axis.errorbar(
            mean, place, xerr=deviation, marker='o', capsize=3, color='C0', label=row.start
        )
    names = [f'{row.start}, {row.labels:,}' if several else row.start for row in group.rows]
    axis.set_yticks(range(len(names)), names[::-1])
    axis.set_xlabel(metric)
    axis.grid(axis='x', alpha=0.3)


def sections(entries: list[dict], pictures: Path) -> str:
    """All tables in Markdown; plots lie in a folder beside the page.

    Args:
        entries (list[dict]): Of all ledgers.
        pictures (Path): The folder.
    """
    parts = []
    for number, one in enumerate(group(entries), 1):
        runs = [run for row in one.rows for run in row.runs]
        parts.append(
            f'### {one.detector}, on {one.val["name"]} ({one.val["images"]:,} images)\n\n{table(one)}'
        )
        picture = pictures / f'{number}_{one.detector}.png'
        if draw(one, picture):
            parts.append(f'![The table above as a plot]({pictures.name}/{picture.name})')
        devices = sorted({run['device'] for run in runs})
        commands = sorted({run['command'] for run in runs})
        lines = ''.join(f'    {command}\n' for command in commands)
        parts.append(f'Measured on: {"; ".join(devices)}. Commands:\n\n{lines}'.rstrip())
    return '\n\n'.join(parts) or 'No run has finished yet.'


def write_results(ledgers: list[Path], out: Path) -> int:
    """Draw a page, or the marked part of one that is there; the rest of its text stays.

    Args:
        ledgers (list[Path]): Of which every run counts once.
        out (Path): The page; plots come into a folder of its name beside it.

    Returns:
        int: Finished fine-tunings.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: A file is no ledger, or the page has no marked part.
    """
    entries = {}
    for path in ledgers:
        if not path.exists():
            raise FileNotFoundError(f'no ledger at {path}')
        entries.update({entry['identity']: entry for entry in read_ledger(path)})
    page = out.read_text(encoding='utf-8') if out.exists() else NEW_PAGE
    marked = re.compile(f'{re.escape(BEGIN)}.*{re.escape(END)}', re.DOTALL)
    if len(marked.findall(page)) != 1:
        raise ValueError(f'{out} has no place for results: add the lines {BEGIN} and {END}')
    found = list(entries.values())
    drawn = f'{BEGIN}\n\n{sections(found, out.with_suffix(""))}\n\n{END}'
    write_text(out, marked.sub(lambda _: drawn, page))
    return sum(entry['kind'] == 'finetune' for entry in found)
