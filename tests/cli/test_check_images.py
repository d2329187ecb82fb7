"""check-images finds what training would replace."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from bad_files import UNUSABLE, USABLE, picture
from conftest import ROOT, draw_images
from mcl_mm.cli import main
from mcl_mm.datasets import LoadAnyImage, UnlabelledImages


def check(capsys, *arguments):
    """Run the command in this process; return exit code and what it printed."""
    with pytest.raises(SystemExit) as end:
        main('check-images', ['--workers', '2', *map(str, arguments)])
    return end.value.code, capsys.readouterr().out


def write_kinds(folder, kinds):
    """One file of each kind, in a folder of its own; return path to start of the reason."""
    expected = {}
    for number, (name, write, *reason) in enumerate(kinds.values()):
        path = folder / f'{number:02}' / name
        path.parent.mkdir(parents=True)
        write(path)
        expected[path] = ''.join(reason)
    return expected


def test_good_folder(image_folder, capsys):
    code, printed = check(capsys, image_folder)
    assert code == 0
    assert '24 images in' in printed
    assert re.search(r'0 of 24 images cannot be used \(0\.00%\), [1-9]\d* images/s', printed)


def test_every_kind_is_found_with_its_reason_and_the_rest_is_listed(tmp_path, capsys):
    bad = write_kinds(tmp_path / 'images/bad', UNUSABLE)
    good = write_kinds(tmp_path / 'images/good', USABLE)
    bad = {p: reason for p, reason in bad.items() if p.is_symlink() or p.is_file()}
    code, printed = check(capsys, tmp_path / 'images',
                          '--list', tmp_path / 'good.txt', '--out', tmp_path / 'bad.txt')  # fmt: skip
    assert code == 1
    assert f'{len(bad)} of {len(bad) + len(good)} images cannot be used' in printed
    assert re.search(r'^ +6 damaged$', printed, re.MULTILINE)
    assert re.search(r'^ +2 too small$', printed, re.MULTILINE)
    lines = [line.split('\t') for line in (tmp_path / 'bad.txt').read_text().splitlines()]
    assert [path for path, _ in lines] == sorted(map(str, bad))
    for path, reason in lines:
        assert reason.startswith(bad[tmp_path / path])
    # The list is what training takes, and training then replaces nothing.
    dataset = UnlabelledImages(
        data_root=str(tmp_path / 'images'),
        ann_file=str(tmp_path / 'good.txt'),
        pipeline=[LoadAnyImage()],
    )
    assert [dataset[i]['img_path'] for i in range(len(dataset))] == sorted(map(str, good))
    code, printed = check(capsys, tmp_path / 'images', '--ann-file', tmp_path / 'good.txt')
    assert code == 0
    assert f'0 of {len(good)} images' in printed


def test_without_files_to_write_the_bad_images_are_printed(image_folder, capsys):
    (image_folder / '0003.jpg').write_text('text')
    code, printed = check(capsys, image_folder)
    assert code == 1
    assert f'{image_folder}/0003.jpg\tnot an image\n' in printed
    assert '1 of 24 images cannot be used (4.17%)' in printed


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['/nowhere'], 'FileNotFoundError: no image folder at /nowhere'),
        (['{}/empty'], 'ValueError: no image in .*empty'),
        (
            ['{}/images', '--out', '/nowhere/bad.txt'],
            'FileNotFoundError: no folder to write to at /nowhere',
        ),
        (['{}/images', '--list', '{}/empty'], 'IsADirectoryError: .*give the name of a file'),
        (
            ['{}/images', '--list', '{}/a', '--out', '{}/./a'],
            'ValueError: --list and --out are both',
        ),
        (['{}/images', '--ann-file', '/nowhere.txt'], 'FileNotFoundError: no list of images at'),
        (['{}/images', '--workers', '0'], 'ValueError: --workers must be at least 1'),
    ],
)
def test_bad_input_ends_in_one_clear_error(tmp_path, capsys, arguments, message):
    (tmp_path / 'empty').mkdir()
    draw_images(tmp_path / 'images', 1)
    code, _ = check(capsys, *(a.format(tmp_path) for a in arguments))
    assert re.match(message, code)


def test_a_folder_below_the_home_folder(tmp_path, capsys, monkeypatch):
    draw_images(tmp_path / 'images', 2)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert check(capsys, '~/images', '--list', tmp_path / 'good.txt')[0] == 0
    assert (tmp_path / 'good.txt').read_text() == '0000.jpg\n0001.jpg\n'


def test_interrupted_check_says_how_far_it_came_and_writes_no_list(tmp_path):
    (tmp_path / 'images').mkdir()
    picture(800, 800).save(tmp_path / 'images/0000.png', compress_level=1)
    (tmp_path / 'images/0001.jpg').write_text('text')
    for index in range(2, 10000):  # a minute
        os.link(tmp_path / 'images/0000.png', tmp_path / f'images/{index:04}.png')
    process = subprocess.Popen(
        [sys.executable, 'tools/check_images.py', tmp_path / 'images', '--workers', '2',
         '--list', tmp_path / 'good.txt', '--out', tmp_path / 'bad.txt'],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    printed = process.stdout.readline()
    assert 'images in' in printed, process.communicate()
    time.sleep(5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    checked = int(re.search(r'1 of (\d+) images cannot be used', stdout).group(1))
    assert f'{10000 - checked} not checked, no list written' in stdout
    assert 0 < checked < 10000
    assert (tmp_path / 'bad.txt').read_text() == f'{tmp_path}/images/0001.jpg\tnot an image\n'
    assert not (tmp_path / 'good.txt').exists()
    assert 'Traceback' not in stderr


def test_side_information_formats_and_links_of_a_real_folder(tmp_path, capsys):
    draw_images(tmp_path / 'images', 3)
    (tmp_path / 'images/._0000.jpg').write_bytes(b'\0\5\26\7')
    (tmp_path / 'images/__MACOSX').mkdir()
    (tmp_path / 'images/__MACOSX/x.jpg').write_bytes(b'\0\5\26\7')
    (tmp_path / 'images/up').symlink_to('..')
    (tmp_path / 'images/a.HEIC').write_text('other')
    (tmp_path / 'images/b.xml').write_text('other')
    code, printed = check(capsys, tmp_path / 'images')
    assert code == 0
    assert '3 images in' in printed
    assert re.search(r'passed over: (1 \.heic, 1 \.xml|.*1 hidden.*)', printed)
    assert 'Convert .heic to JPEG or PNG' in printed


def test_names_of_any_bytes_are_written_read_and_printed(tmp_path, capsys):
    folder = tmp_path / 'images'
    draw_images(folder, 1)
    odd = os.path.join(os.fsencode(folder), b'caf\xe9.jpg')
    os.rename(folder / '0000.jpg', odd)
    with open(os.path.join(os.fsencode(folder), b'\xff bad.jpg'), 'wb') as file:
        file.write(b'text')
    code, printed = check(capsys, folder, '--list', tmp_path / 'good.txt')
    assert code == 1
    assert '\\udcff bad.jpg\tnot an image' in printed
    assert (tmp_path / 'good.txt').read_bytes() == b'caf\xe9.jpg\n'
    code, printed = check(capsys, folder, '--ann-file', tmp_path / 'good.txt')
    assert (code, '0 of 1 images cannot be used' in printed) == (0, True)
    data = UnlabelledImages(data_root=str(folder), ann_file=str(tmp_path / 'good.txt'), pipeline=[])
    assert os.fsencode(data[0]['img_path']) == odd


def test_labels_of_a_list_are_kept(image_folder, tmp_path, capsys):
    (image_folder / '0001.jpg').write_text('text')
    (tmp_path / 'labels.txt').write_text('0000.jpg 3\n0001.jpg 0\n0002.jpg 1\n')
    code, printed = check(
        capsys, image_folder, '--ann-file', tmp_path / 'labels.txt', '--list', tmp_path / 'good.txt'
    )
    assert (code, '1 of 3 images' in printed) == (1, True)
    assert (tmp_path / 'good.txt').read_text() == '0000.jpg 3\n0002.jpg 1\n'


def test_the_value_range_of_deep_images_reaches_training(tmp_path, capsys):
    rng = np.random.default_rng(0)
    (tmp_path / 'images').mkdir()
    for index in range(5):  # 12 bits in 16, a hot pixel in each
        values = rng.integers(500, 3501, (50, 60)).astype(np.uint16)
        values[3, 4] = 65535
        Image.fromarray(values).save(tmp_path / f'images/{index}.png')
    code, printed = check(capsys, tmp_path / 'images', '--list', tmp_path / 'good.txt')
    assert code == 0
    low, high = map(float, re.search(r'values of 5: \[([\d.]+), ([\d.]+)\]', printed).groups())
    assert 500 <= low <= 510
    assert 3490 <= high <= 3500
    assert 'clipped' not in printed
    assert 'nearly' not in printed
    data = UnlabelledImages(
        data_root=str(tmp_path / 'images'),
        ann_file=str(tmp_path / 'good.txt'),
        pipeline=[LoadAnyImage()],
    )
    assert data.value_range == pytest.approx((low, high), abs=0.01)
    assert not data.range_measured
    assert len(np.unique(data[0]['img'])) > 250  # of 16 that the range of 16 bits would leave
