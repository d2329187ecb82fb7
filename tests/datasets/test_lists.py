"""Lists are read as editors of all systems write them, and as they were written."""

import numpy as np
import pytest

from mcl_mm.datasets.lists import join, read_list, split_label, without_label, write_list
from mcl_mm.datasets.scan import EXTENSIONS

NAMES = ['a.jpg', 'b/c d.png', 'é.jpg']


def read(path):
    return [line for _, line in read_list(str(path), EXTENSIONS)]


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r'])
@pytest.mark.parametrize('blank', ['', '  ', '\t'])
def test_editors_and_systems(tmp_path, encoding, end, blank):
    text = end.join(part for name in NAMES for part in (name + blank, blank))
    (tmp_path / 'list.txt').write_bytes(('# those of May' + end + text).encode(encoding))
    assert read(tmp_path / 'list.txt') == NAMES
    (tmp_path / 'list.txt').write_bytes(text.encode(encoding))  # without a line break at the end
    assert read(tmp_path / 'list.txt') == NAMES


def test_big_endian(tmp_path):
    (tmp_path / 'list.txt').write_bytes(b'\xfe\xff' + 'a.jpg\n'.encode('utf-16-be'))
    assert read(tmp_path / 'list.txt') == ['a.jpg']


def test_any_names_come_back(tmp_path):
    rng = np.random.default_rng(0)
    drawn = [
        bytes(rng.choice([*range(1, 10), 11, 12, *range(14, 256)], 9).tolist()) for _ in range(500)
    ]
    names = [name.decode('utf-8', 'surrogateescape') + '.jpg' for name in drawn]
    names += ['#1.jpg', '# x.JPG', ' a.jpg', '\u2028.jpg', '\x85b.png', 'a b 7.jpg']
    names = [name for name in names if not name.startswith('\ufeff')]
    write_list(str(tmp_path / 'list.txt'), names)
    assert read(tmp_path / 'list.txt') == names


def test_lines_keep_their_numbers(tmp_path):
    (tmp_path / 'list.txt').write_text('\n# a\nb.jpg\n\nc.jpg\n')
    assert read_list(str(tmp_path / 'list.txt'), EXTENSIONS) == [(3, 'b.jpg'), (5, 'c.jpg')]


@pytest.mark.parametrize(
    ('line', 'labelled', 'listed'),
    [
        ('a b.jpg 12', ('a b.jpg', 12), ('a b.jpg', 12)),
        ('a.jpg\t3', ('a.jpg', 3), ('a.jpg', 3)),
        ('a.jpg', None, ('a.jpg', None)),
        ('a 7.jpg', None, ('a 7.jpg', None)),
        ('scan 7', ('scan', 7), ('scan 7', None)),  # a file without an ending
        ('a.jpg -1', None, ('a.jpg -1', None)),
        ('7', None, ('7', None)),
    ],
)
def test_labels(line, labelled, listed):
    assert split_label(line) == labelled
    assert without_label(line, EXTENSIONS) == listed


def test_names_of_windows(tmp_path):
    (tmp_path / 'x').mkdir()
    (tmp_path / 'x/a.jpg').touch()
    assert join(str(tmp_path), 'x\\a.jpg') == f'{tmp_path}/x/a.jpg'
    (tmp_path / 'x\\a.jpg').touch()
    assert join(str(tmp_path), 'x\\a.jpg') == f'{tmp_path}/x\\a.jpg'


@pytest.mark.parametrize(
    ('name', 'data', 'message'),
    [
        ('list.txt', 'a.jpg\n'.encode('utf-16-le'), 'not a text file: save it as UTF-8'),
        ('list.txt', b'{"images": []}', 'is a JSON file, not a list of images'),
        ('list.txt', b'["a.jpg",\n "b.jpg"]', 'is a JSON file, not a list of images'),
        ('lines.txt', b'{"image": "a.jpg"}\n{"image": "b.jpg"}', 'is a JSON file'),
        ('a.json', b'a.jpg', 'is a JSON file'),
    ],
)
def test_what_is_no_list_is_said(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name)


@pytest.mark.parametrize('name', ['[2020] a/b.jpg', '{x}.jpg', '[1, 2].jpg', '[[[[.jpg', '{'])
def test_names_may_begin_with_brackets(tmp_path, name):
    (tmp_path / 'list.txt').write_text(f'{name}\nb.jpg\n')
    assert read(tmp_path / 'list.txt') == [name, 'b.jpg']


@pytest.mark.parametrize(
    'text',
    [
        'filename,label\na.jpg,0\nb.jpg,1\n',
        '"a.jpg"\n"b.jpg"\n',
        "'a.jpg'\n",
        'a.jpg;0\n',
        '"a.JPG" ; "0"\n',
        ',filename\n0,a.jpg,3\n',
    ],
)
def test_a_table_is_no_list(tmp_path, text):
    (tmp_path / 'list.csv').write_text(text)
    with pytest.raises(
        ValueError, match='is of a table, not of a list of images: .*Write one path'
    ):
        read_list(str(tmp_path / 'list.csv'), ['.jpg'])


@pytest.mark.parametrize('text', ['a,b.jpg\n', 'x;y.jpg 3\n', "it's.jpg,v.jpg\n", 'a\nb\n'])
def test_signs_in_names_make_no_table(tmp_path, text):
    (tmp_path / 'list.txt').write_text(text)
    read = read_list(str(tmp_path / 'list.txt'), ['.jpg'])
    assert [line for _, line in read] == text.splitlines()
