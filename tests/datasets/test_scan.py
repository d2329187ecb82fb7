"""Folders are searched as a person would: once each, without what systems leave in them."""

import os
from collections import Counter

import pytest

from mcl_mm.datasets.scan import EXTENSIONS, describe_passed_over, find_files, spread


@pytest.fixture
def root(tmp_path):
    for name in ('a/1.jpg', 'a/b/2.PNG', 'c/3.ppm', 'c/4.jfif'):
        (tmp_path / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'images' / name).touch()
    return tmp_path / 'images'


def names(root, *roots):
    paths, passed_over = find_files([str(r) for r in roots or (root,)], EXTENSIONS)
    return [os.path.relpath(path, root) for path in paths], passed_over


EVERYTHING = ['a/1.jpg', 'a/b/2.PNG', 'c/3.ppm', 'c/4.jfif']


@pytest.mark.parametrize('name', ['._1.jpg', '.DS_Store', '.thumbnails/1.jpg', '__MACOSX/1.jpg',
                                  '@eaDir/1.jpg', '#recycle/1.jpg', '$RECYCLE.BIN/1.jpg'])  # fmt: skip
def test_what_systems_leave_is_skipped(root, name):
    for place in (root / name, root / 'a' / name):
        place.parent.mkdir(exist_ok=True)
        place.touch()
    assert names(root)[0] == EVERYTHING


def test_a_hidden_root_is_searched(root):
    root.rename(root.parent / '.cache')
    assert len(names(root, root.parent / '.cache')[0]) == 4


def test_links_upwards_and_to_each_other_end(root):
    (root / 'a/up').symlink_to('..')
    (root / 'a/up2').symlink_to('../..')
    (root / 'a/x').symlink_to('../c')
    (root / 'c/y').symlink_to('../a')
    (root / 'loop').symlink_to('loop')
    assert names(root)[0] == EVERYTHING


def test_a_link_leads_to_where_nothing_else_does(root, tmp_path):
    (tmp_path / 'far').mkdir()
    (tmp_path / 'far/5.jpg').touch()
    (root / 'a/one').symlink_to(tmp_path / 'far')
    (root / 'a/two').symlink_to(tmp_path / 'far')
    (root / '0').symlink_to(root / 'c')  # sorted before the folder itself
    assert names(root)[0] == ['a/1.jpg', 'a/b/2.PNG', 'a/one/5.jpg', 'c/3.ppm', 'c/4.jfif']


def test_roots_that_overlap_are_searched_once_in_their_order(root):
    assert names(root, root / 'c', root / 'a', root / 'a/b')[0] == EVERYTHING[2:] + EVERYTHING[:2]


def test_other_files_are_counted_by_ending(root):
    for name in ('x.heic', 'y.HEIC', 'z.xml', 'README', '.hidden', 'line\nbreak.jpg'):
        (root / name).touch()
    passed_over = names(root)[1]
    assert passed_over == {'.heic': 2, '.xml': 1, 'without an ending': 1, 'hidden': 1,
                           'with a line break in the name': 1}  # fmt: skip
    text = describe_passed_over(passed_over)
    assert text.startswith('2 .heic, ')
    assert text.endswith('. Convert .heic to JPEG or PNG if they are to be used')
    assert describe_passed_over(Counter(dict(a=3, b=2, c=1, d=1)), 2) == '3 a, 2 b, 2 others'


def test_folder_that_cannot_be_searched_is_named(root, monkeypatch):
    def scandir(path, real=os.scandir):
        if str(path).endswith('c'):
            raise PermissionError(13, 'Permission denied', path)
        return real(path)

    warned = []
    monkeypatch.setattr('os.scandir', scandir)
    monkeypatch.setattr('mcl_mm.datasets.scan.print_log', lambda text, *_: warned.append(text))
    assert names(root)[0] == EVERYTHING[:2]
    assert warned == [f'images below {root}/c are left out: Permission denied']


def test_places_are_spread_evenly():
    assert list(spread(5, 16)) == [0, 1, 2, 3, 4]
    assert list(spread(101, 5)) == [0, 25, 50, 75, 100]
    assert list(spread(0, 5)) == []
