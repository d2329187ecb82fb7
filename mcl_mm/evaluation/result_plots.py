"""Plots of results: over labels, over compute, or a line of dots for each start."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np

from .charts import plt, save
from .result_tables import Group, Row
from .starts import RANDOM


class Axis(NamedTuple):
    """What a plot runs over.

    Attributes:
        label (str): Its name, with the unit.
        along (Callable): The place of a row on it; None if that is not known.
        held (Callable): What all rows of a curve have in common.
    """

    label: str
    along: Callable[[Row], Optional[float]]
    held: Callable[[Row], Optional[float]]


def labels_of(row: Row) -> int:
    """Labelled images."""
    return row.labels


def compute_of(row: Row) -> Optional[float]:
    """Multiply-adds of the pre-training, in T; None where the ledger does not know."""
    return None if row.spent is None else row.spent / 1e12


def budget_of(row: Row) -> Optional[float]:
    """The same to two digits: equal compute is equal to within an update."""
    return None if row.spent is None else float(f'{compute_of(row):.2g}')


AXES = (
    Axis('labelled images', labels_of, budget_of),
    Axis('multiply-adds of pre-training, T', compute_of, labels_of),
)


def draw(group: Group, path: Path) -> bool:
    """Plot each metric over labelled images and over compute, where a start has several of either.

    Where none has, a line for each row has its runs as dots, their mean and deviation.

    Returns:
        bool: Whether there was anything to compare.
    """
    if len(group.rows) < 2:
        return False
    wanted = [(axis, found) for axis in AXES if (found := curves(group, axis))]
    starts = dict.fromkeys(row.start for row in group.rows)
    colours = {start: f'C{number % 10}' for number, start in enumerate(starts)}
    rows, columns = (len(group.metrics), len(wanted)) if wanted else (1, len(group.metrics))
    height = 3.4 * rows if wanted else 1.2 + 0.35 * len(group.rows)
    figure, grid = plt.subplots(
        rows, columns, figsize=(5 * columns, height), squeeze=False, layout='constrained'
    )
    for column, (axis, found) in enumerate(wanted):
        for panel, metric in zip(grid[:, column], group.metrics):
            draw_curves(panel, axis, found, metric, colours)
    if wanted:
        lines = {
            start: line
            for panel in grid[0]
            for line, start in zip(*panel.get_legend_handles_labels())
        }
        figure.legend(lines.values(), lines, loc='outside upper center', ncols=4, fontsize='small')
    else:
        for panel, metric in zip(grid[0], group.metrics):
            draw_rows(panel, group, metric)
    save(figure, path, metadata=dict(Software=None))
    return True


def curves(group: Group, axis: Axis) -> dict[str, list[Row]]:
    """The rows of each start along an axis; nothing if no start has two places on it.

    What is held is the same along a curve. Of several values of it, a start gets the one with the most
    places; of these, the one nearest to that of the longest curve.
    """
    found = defaultdict(lambda: defaultdict(dict))
    for row in group.rows:
        if axis.along(row) is not None:
            found[row.start][axis.held(row)][axis.along(row)] = row
    lengths = {
        (start, held): len(places)
        for start, by_held in found.items()
        for held, places in by_held.items()
    }
    if max(lengths.values(), default=0) < 2:
        return {}
    trained = {curve: length for curve, length in lengths.items() if curve[0] != RANDOM}
    usual = max(trained, key=trained.get, default=(RANDOM, 0))[1] or 0

    chosen = {}
    for start, by_held in found.items():
        nearest = sorted(by_held, key=lambda held: abs((held or 0) - usual))
        longest = max(nearest, key=lambda held: lengths[start, held])
        chosen[start] = [row for _, row in sorted(by_held[longest].items())]
    return chosen


def draw_curves(
    panel: plt.Axes,
    axis: Axis,
    found: dict[str, list[Row]],
    metric: str,
    colours: dict[str, str],
) -> None:
    """A curve, or a dot, for each start in its colour: means and deviations."""
    for start, rows in found.items():
        places = [axis.along(row) for row in rows]
        means, deviations = zip(*(mean_and_deviation(row.values(metric)) for row in rows))
        panel.errorbar(
            places, means, deviations, marker='o', capsize=3, color=colours[start], label=start
        )
    panel.set(xlabel=axis.label, ylabel=metric)
    panel.grid(alpha=0.3)


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
