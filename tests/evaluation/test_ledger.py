"""A ledger is whole at every moment, knows each run once, and says what is wrong with a line."""

import json
from concurrent.futures import ProcessPoolExecutor

import pytest

from mcl_mm.evaluation import ledger as module
from mcl_mm.evaluation.ledger import FIELDS, Record, add_entry, read_ledger


def entry(identity, **values):
    known = dict(kind='pretrain', metrics={}, train=dict(images=1), multiply_adds=1.0)
    return dict(dict.fromkeys(FIELDS), schema=1, identity=identity, **{**known, **values})


def test_every_identity_is_there_once_in_the_order_of_finishing(tmp_path):
    path = tmp_path / 'new/runs.jsonl'
    assert read_ledger(path) == []
    for identity, seed in (('b', 1), ('a', 2), ('b', 3)):
        add_entry(path, entry(identity) | dict(seed=seed))
    assert [(e['identity'], e['seed']) for e in read_ledger(path)] == [('b', 1), ('a', 2)]
    assert len(path.read_text().splitlines()) == 2


def add_many(path, name):
    for number in range(20):
        add_entry(path, entry(f'{name}{number}'))


def test_processes_that_add_at_once_lose_nothing(tmp_path):
    path = tmp_path / 'runs.jsonl'
    with ProcessPoolExecutor(3) as pool:
        list(pool.map(add_many, [path] * 3, 'abc'))
    assert {e['identity'] for e in read_ledger(path)} == {
        f'{n}{i}' for n in 'abc' for i in range(20)
    }
    assert [file.name for file in tmp_path.iterdir()] == ['runs.jsonl']


def test_a_write_that_fails_leaves_the_ledger_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / 'runs.jsonl'
    add_entry(path, entry('a'))
    before = path.read_bytes()
    monkeypatch.setattr('os.replace', lambda *_: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError, match='disk full'):
        add_entry(path, entry('b'))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ['runs.jsonl']


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('{"schema": 1', 'line 2 is not JSON'),
        ('[]', 'line 2 is no entry of a ledger: it lacks command, config'),
        ('{"schema": 1}', 'it lacks command, config'),
        (json.dumps(entry('b') | dict(schema=7)), 'line 2 has schema 7, this version reads 1'),
        (json.dumps(entry('b', metrics=3)), 'line 2 is no entry of a ledger: metrics is 3'),
        (json.dumps(entry('b', metrics=dict(a='x'))), "metrics is {'a': 'x'}. Remove or mend it"),
        (json.dumps(entry('b', minutes='x')), "minutes is 'x'"),
        (json.dumps(entry('b', kind='x')), "kind is 'x'"),
        (json.dumps(entry('b', train={})), 'train is {}'),
        (json.dumps(entry('b', multiply_adds=None)), 'multiply_adds is None'),
        (json.dumps(entry('b', kind='finetune', origin={}, val=None)), 'val is None'),
        (json.dumps(entry('b', kind='finetune', origin=3)), 'val is None|origin is 3'),
    ],
)
def test_a_line_that_is_no_entry_is_named(tmp_path, line, message):
    path = tmp_path / 'runs.jsonl'
    path.write_text(f'{json.dumps(entry("a"))}\n{line}\n')
    with pytest.raises(ValueError, match=message):
        read_ledger(path)


def test_a_record_becomes_a_line_with_all_fields(tmp_path, monkeypatch):
    facts = dict(kind='pretrain', identity='x', command='mcl-mm compare-transfer', config='c', seed=3,
                 train=dict(images=5), multiply_adds=1.0, images_seen=5, processes=1)  # fmt: skip
    record = Record(tmp_path / 'runs.jsonl', facts)
    assert record.entry() is None
    monkeypatch.setattr(module.time, 'gmtime', lambda: (2026, 1, 2, 3, 4, 5, 0, 0, 0))
    record.add({'coco/bbox_mAP': 0.5}, 1.5)
    found = record.entry()
    assert found.keys() >= FIELDS
    assert facts.items() <= found.items()
    assert (found['finished'], found['minutes']) == ('2026-01-02T03:04:05Z', 1.5)
    assert found['metrics'] == {'coco/bbox_mAP': 0.5}
    assert set(found['versions']) == {'python', *module.LIBRARIES}
