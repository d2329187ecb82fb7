"""Tables of results: what a row holds, and what it cost."""

from mcl_mm.evaluation.result_tables import group, table
from tiny_ledger import ENTRIES, finetuning, pretraining


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


def test_pretrainings_on_other_images_are_rows_of_their_own():
    other = pretraining('p3', 'short', 0, 2e12, 1.0)
    other['train'] = dict(name='photographs', images=500, digest='e')
    entries = [*ENTRIES, other, finetuning('i', 'mcl', 0, 0.9, before='p3')]
    first, _ = group(entries)
    found = {tuple(row[:3]): row[3] for row in cells(first)[2:]}
    assert found['100', 'mcl, photographs', '1'] == '0.900'
    assert found['100', 'mcl, set', '2'] == '0.320 ± 0.028'
