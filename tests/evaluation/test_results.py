"""The page of results: what its tables hold, and that the one of this project is drawn from its ledger."""

import json
import re
import shutil

import numpy as np
import pytest

from conftest import ROOT, call_tool
from mcl_mm.evaluation.results import BEGIN, END, group, table, write_results

VERSIONS = dict(versions={}, device='CPU, 2 cores', processes=1, command='mcl-mm compare', schema=1)


def finetuning(identity, start, seed, ap, labels=100, fold=1, before=None, **more):
    origin = dict(parts=[], **(dict(pretraining=before) if before else {}))
    train = dict(name=f'set/{fold}', images=labels, digest=f'{labels}-{fold}')
    val = dict(name='set/val', images=60, digest='val')
    metrics = {'coco/bbox_mAP': ap, 'coco/bbox_mAP_50': 2 * ap, 'coco/bbox_mAP_s': 0.9}
    facts = dict(kind='finetune', identity=identity, detector='retina', config='c', start=start, seed=seed,
                 origin=origin, train=train, val=val, images_seen=1000, minutes=2.0, metrics=metrics,
                 finished='2026-01-01T00:00:00Z')  # fmt: skip
    return facts | VERSIONS | more


def pretraining(identity, config, seed, spent, minutes):
    return dict(kind='pretrain', identity=identity, method='mcl', config=config, seed=seed, minutes=minutes,
                train=dict(name='set', images=500, digest='d'), images_seen=4000, multiply_adds=spent,
                metrics={}, finished='2026-01-01T00:00:00Z', **VERSIONS)  # fmt: skip


ENTRIES = [
    pretraining('p0', 'short', 0, 2e12, 1.0),
    pretraining('p1', 'short', 1, 2e12, 4.0),
    pretraining('p2', 'long', 0, 8e12, 9.0),
    finetuning('a', 'mcl', 0, 0.30, before='p0'),
    finetuning('b', 'mcl', 1, 0.34, before='p1', fold=2),
    finetuning('c', 'mcl', 0, 0.40, before='p2'),
    finetuning('d', 'random', 0, 0.10),
    finetuning('e', 'random', 1, 0.30, fold=2, minutes=None),
    finetuning('f', 'random', 0, 0.50, labels=50),
    finetuning('g', 'random', 0, 0.9, config='other rate'),
    finetuning('h', 'coco', 0, 0.45) | dict(origin=dict(parts=[], weights='sha')),
]


def cells(one):
    return [[c.strip() for c in line.split('|')[1:-1]] for line in table(one).splitlines()]


def test_seeds_and_folds_are_one_row_and_other_budgets_labels_and_settings_are_not():
    first, second = group(ENTRIES)
    assert [row[:4] for row in cells(first)[2:]] == [
        ['50', 'random', '1', '0.500'],
        ['100', 'random', '2', '0.200 ± 0.141'],
        ['100', 'coco', '1', '0.450'],
        ['100', 'mcl', '2', '0.320 ± 0.028'],
        ['100', 'mcl', '1', '0.400'],
    ]
    assert [row[1:4] for row in cells(second)[2:]] == [['random', '1', '0.900']]


def test_costs_stand_beside_what_they_bought():
    first, _ = group(ENTRIES)
    assert cells(first)[0][3:] == [
        'coco/bbox_mAP', 'coco/bbox_mAP_50', 'pre-training: images seen', 'T multiply-adds', 'minutes',
        'fine-tuning: minutes',
    ]  # fmt: skip
    rows = {tuple(row[:3]): row[5:] for row in cells(first)[2:]}
    assert rows['100', 'random', '2'] == ['', '0', '', '2.0']
    assert rows['100', 'mcl', '2'] == ['4,000', '2', '2.5', '2.0']
    assert rows['100', 'coco', '1'] == ['', '', '', '2.0']  # nobody knows what it cost


def test_nothing_detected_is_ap_0():
    silent = finetuning('x', 'random', 2, 0.0) | dict(metrics={})
    (first, _) = group([*ENTRIES, silent])
    values = next(row for row in first.rows if row.labels == 100 and row.start == 'random')
    assert sorted(values.values('coco/bbox_mAP')) == [0, 0.1, 0.3]


def write(path, entries):
    path.write_text(''.join(json.dumps(e) + '\n' for e in entries))
    return path


def test_the_page_keeps_its_text_and_is_the_same_from_the_same_runs(tmp_path):
    one, other = write(tmp_path / 'a.jsonl', ENTRIES), write(tmp_path / 'b.jsonl', ENTRIES[:5])
    page = tmp_path / 'results.md'
    page.write_text(f'# Mine\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n')
    assert write_results([one, other], page) == 8
    text = page.read_text()
    assert text.startswith('# Mine\n\nBefore.\n\n')
    assert text.endswith('\n\nAfter.\n')
    assert 'old' not in text
    assert table(group(ENTRIES)[0]) in text
    pictures = re.findall(r'\]\((results/[^)]+\.png)\)', text)
    assert len(pictures) == 1  # the other detector has one row, and nothing to compare
    before = (tmp_path / pictures[0]).read_bytes()
    write_results([one], page)
    assert page.read_text() == text
    assert (tmp_path / pictures[0]).read_bytes() == before


def test_curves_have_means_and_deviations(tmp_path, monkeypatch):
    from mcl_mm.evaluation import results

    drawn = []
    monkeypatch.setattr(
        'matplotlib.axes.Axes.errorbar',
        lambda self, *points, **k: drawn.append((points, k['label'])),
    )
    monkeypatch.setattr('matplotlib.axes.Axes.legend', lambda *_, **__: None)
    first, second = group(ENTRIES)
    assert results.draw(first, tmp_path / 'a.png')
    assert not results.draw(second, tmp_path / 'b.png')
    over_labels = next(points for points, label in drawn if label == 'random')
    np.testing.assert_allclose(
        over_labels, [[50, 100], [0.5, 0.2], [0, np.std([0.1, 0.3], ddof=1)]]
    )
    over_compute = [points for points, label in drawn if label == 'mcl'][-2]
    np.testing.assert_allclose(over_compute[:2], [[2, 8], [0.32, 0.4]])


def test_rows_of_one_budget_are_lines_of_dots(tmp_path, monkeypatch):
    from mcl_mm.evaluation import results

    bars, names = [], []
    monkeypatch.setattr(
        'matplotlib.axes.Axes.errorbar',
        lambda self, x, y, xerr, label, **_: bars.append((x, y, xerr, label)),
    )
    monkeypatch.setattr('matplotlib.axes.Axes.set_yticks', lambda self, _, to: names.append(to))
    (one,) = group([e for e in ENTRIES if e['identity'] in ('p0', 'p1', 'a', 'b', 'd', 'e')])
    assert results.draw(one, tmp_path / 'a.png')
    assert [label for *_, label in bars[:2]] == names[0] == ['mcl', 'random']
    np.testing.assert_allclose(bars[0][:3], [0.32, 0, np.std([0.3, 0.34], ddof=1)])
    np.testing.assert_allclose(bars[1][:3], [0.2, 1, np.std([0.1, 0.3], ddof=1)])


def test_bad_input(tmp_path):
    ledger = write(tmp_path / 'a.jsonl', ENTRIES)
    with pytest.raises(FileNotFoundError, match='no ledger at'):
        write_results([tmp_path / 'none.jsonl'], tmp_path / 'page.md')
    (tmp_path / 'page.md').write_text('# A page of another kind\n')
    with pytest.raises(ValueError, match='has no place for results: add the lines'):
        write_results([ledger], tmp_path / 'page.md')
    assert (tmp_path / 'page.md').read_text() == '# A page of another kind\n'


def test_results_of_this_project_are_drawn_from_its_ledger(tmp_path, monkeypatch):
    shutil.copy(ROOT / 'docs/results.md', tmp_path)
    ledgers = sorted((ROOT / 'evidence').glob('*.jsonl'))
    call_tool(monkeypatch, 'results', *ledgers, '--out', tmp_path / 'results.md')
    assert (tmp_path / 'results.md').read_text() == (ROOT / 'docs/results.md').read_text()
    pictures = {path.name for path in (ROOT / 'docs/results').glob('*')}
    assert {path.name for path in (tmp_path / 'results').glob('*')} == pictures


def test_every_mean_and_deviation_of_a_page_is_one_of_the_results():
    drawn = re.findall(r'\d\.\d{3} ± \d\.\d{3}', (ROOT / 'docs/results.md').read_text())
    for page in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))):
        said = re.findall(r'\d\.\d+ ± \d\.\d+', page.read_text().replace('*', ''))
        assert set(said) <= set(drawn), page.name
    assert len(drawn) > 20
