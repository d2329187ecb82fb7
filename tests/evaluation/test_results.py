"""The page of results: what its tables hold, and that the one of this project is drawn from its ledger."""

import json
import re
import shutil

import pytest

from conftest import ROOT, call_tool
from mcl_mm.evaluation.result_tables import group, table
from mcl_mm.evaluation.results import BEGIN, END, write_results
from tiny_ledger import ENTRIES


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
