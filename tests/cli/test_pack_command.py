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


def test_a_link_to_an_empty_folder_is_filled(tmp_path, capsys):
    draw_images(tmp_path / 'in', 2)
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'out').symlink_to(tmp_path / 'disk')
    assert call(capsys, tmp_path / 'in', tmp_path / 'out')[0] is None
    assert (tmp_path / 'disk/mcl_mm_shards.npz').exists()
    assert [path.name for path in tmp_path.iterdir() if 'tmp' in path.name] == []


def test_a_mounted_volume_is_refused_first(tmp_path, capsys):
    draw_images(tmp_path / 'in', 2)
    code, _ = call(capsys, tmp_path / 'in', '/proc')
    assert code.startswith(
        'FileExistsError: /proc is a mounted volume: give the name of a new folder'
    )
