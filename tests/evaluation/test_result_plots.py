"""Plots of results: which rows make a curve, and what stands on it."""

import numpy as np

from mcl_mm.evaluation.result_plots import AXES, budget_of, curves, draw
from mcl_mm.evaluation.result_tables import group
from tiny_ledger import ENTRIES, finetuning, pretraining


def test_a_curve_holds_labels_or_budget_and_a_start_has_one(tmp_path):
    """The longest; of several as long, the one nearest to the usual budget."""
    more = [
        finetuning('i', 'mcl', 0, 0.2, labels=50, before='p0'),
        finetuning('j', 'peer', 0, 0.25, before='q0'),
        finetuning('k', 'peer', 0, 0.35, before='q1'),
        pretraining('q0', 'peer short', 0, 2.04e12, 3.0),
        pretraining('q1', 'peer long', 0, 8.04e12, 9.0),
    ]
    first, _ = group(ENTRIES + more)
    over_labels, over_compute = (
        {start: [(row.labels, axis.along(row)) for row in rows] for start, rows in found.items()}
        for axis in AXES
        if (found := curves(first, axis))
    )
    assert over_labels == dict(
        random=[(50, 50), (100, 100)],
        mcl=[(50, 50), (100, 100)],
        peer=[(100, 100)],
        coco=[(100, 100)],
    )
    assert curves(first, AXES[0])['peer'][0].spent == 2.04e12
    (small,) = group(
        [finetuning('a', 'mcl', 0, 0.3, before='p'), pretraining('p', 'c', 0, 2.13e10, 1.0)]
    )
    assert budget_of(small.rows[0]) == 0.021  # small budgets stay apart
    assert over_compute == dict(
        random=[(100, 0)], mcl=[(100, 2), (100, 8)], peer=[(100, 2.04), (100, 8.04)]
    )


def test_curves_have_means_and_deviations(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        'matplotlib.axes.Axes.errorbar',
        lambda self, *points, **k: drawn.append((points, k['label'])),
    )
    monkeypatch.setattr('matplotlib.figure.Figure.legend', lambda *_, **__: None)
    first, second = group(ENTRIES)
    assert draw(first, tmp_path / 'a.png')
    assert not draw(second, tmp_path / 'b.png')
    over_labels = next(points for points, label in drawn if label == 'random')
    np.testing.assert_allclose(
        over_labels, [[50, 100], [0.5, 0.2], [0, np.std([0.1, 0.3], ddof=1)]]
    )
    over_compute = [points for points, label in drawn if label == 'mcl'][-2]
    np.testing.assert_allclose(over_compute[:2], [[2, 8], [0.32, 0.4]])


def test_rows_of_one_budget_are_lines_of_dots(tmp_path, monkeypatch):
    bars, names = [], []
    monkeypatch.setattr(
        'matplotlib.axes.Axes.errorbar',
        lambda self, x, y, xerr, label, **_: bars.append((x, y, xerr, label)),
    )
    monkeypatch.setattr('matplotlib.axes.Axes.set_yticks', lambda self, _, to: names.append(to))
    (one,) = group([e for e in ENTRIES if e['identity'] in ('p0', 'p1', 'a', 'b', 'd', 'e')])
    assert draw(one, tmp_path / 'a.png')
    assert [label for *_, label in bars[:2]] == names[0] == ['mcl', 'random']
    np.testing.assert_allclose(bars[0][:3], [0.32, 0, np.std([0.3, 0.34], ddof=1)])
    np.testing.assert_allclose(bars[1][:3], [0.2, 1, np.std([0.1, 0.3], ddof=1)])
