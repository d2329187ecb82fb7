"""mcl-mm pack says what it wrote, and what it did not."""

import pytest

from conftest import draw_images
from mcl_mm.cli import main


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main('pack', [*map(str, arguments)])
    return end.value.code, capsys.readouterr().out


def test_pack_and_index(tmp_path, capsys):
    draw_images(tmp_path / 'in', 5)
    (tmp_path / 'in/notes.txt').touch()
    code, printed = call(capsys, tmp_path / 'in', tmp_path / 'out', '--shard-size', '1')
    assert code is None
    assert f'{tmp_path}/out: 5 files in 1 shards, 0.00 GB\n' in printed
    assert 'passed over: 1 .txt' in printed
    before = (tmp_path / 'out/mcl_mm_shards.npz').read_bytes()
    (tmp_path / 'out/mcl_mm_shards.npz').unlink()
    code, printed = call(capsys, tmp_path / 'out')
    assert code is None
    assert f'{tmp_path}/out: 5 files in 1 shards' in printed
    assert len((tmp_path / 'out/mcl_mm_shards.npz').read_bytes()) == len(before)


def test_refusals(tmp_path, capsys):
    code, _ = call(capsys, tmp_path / 'gone', tmp_path / 'out')
    assert code.startswith('FileNotFoundError: no image folder at')
    code, _ = call(capsys, tmp_path, tmp_path / 'out', '--shard-size', '0')
    assert code == 'ValueError: --shard-size must be at least 1 MB, got 0'
