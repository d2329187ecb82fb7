"""Folders and lists of images become a data set; what holds none is refused."""

import pytest

from bad_files import picture
from mcl_mm.datasets import UnlabelledImages


@pytest.fixture()
def photo():
    """Any picture."""
    return picture()


def test_folder_nested_or_flat_in_either_case(photo, tmp_path):
    for name in ('b.jpg', 'x/c.PNG', 'x/y/d.webp', 'a.tif', 'e.bmp'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo.save(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('not an image')
    dataset = UnlabelledImages(data_root=str(tmp_path), pipeline=[])
    names = [str(info['img_path'])[len(str(tmp_path)) + 1 :] for info in dataset]
    assert sorted(names) == ['a.tif', 'b.jpg', 'e.bmp', 'x/c.PNG', 'x/y/d.webp']


def test_list_of_images(photo, tmp_path):
    for name in ('a.jpg', 'b.jpg', 'c.jpg'):
        photo.save(tmp_path / name)
    (tmp_path / 'list.txt').write_text('c.jpg\na.jpg\n')
    dataset = UnlabelledImages(data_root=str(tmp_path), ann_file='list.txt', pipeline=[])
    assert [info['img_path'].split('/')[-1] for info in dataset] == ['c.jpg', 'a.jpg']


def test_folder_that_does_not_exist(tmp_path):
    with pytest.raises(FileNotFoundError, match='no image folder at .*data_root'):
        UnlabelledImages(data_root=str(tmp_path / 'nowhere'), pipeline=[])


def test_folder_without_images(tmp_path):
    (tmp_path / 'notes.txt').write_text('not an image')
    with pytest.raises(ValueError, match=r'no image in .*\.jpg'):
        UnlabelledImages(data_root=str(tmp_path), pipeline=[])


def test_folder_without_readable_images(tmp_path):
    for name in ('a.jpg', 'b.png'):
        (tmp_path / name).write_bytes(b'')
    with pytest.raises(ValueError, match='none of 2 files tried can be used, .*a.jpg .empty file'):
        UnlabelledImages(data_root=str(tmp_path), pipeline=[])


def test_missing_list(tmp_path):
    with pytest.raises(FileNotFoundError, match='no list of images'):
        UnlabelledImages(data_root=str(tmp_path), ann_file='list.txt', pipeline=[])


def test_folders_that_do_not_fit_are_refused(tmp_path):
    (tmp_path / 'a').mkdir()
    with pytest.raises(FileNotFoundError, match=r'no image folder at .*/b'):
        UnlabelledImages(data_root=str(tmp_path), folders=['a', 'b'])
    with pytest.raises(ValueError, match='give one of them'):
        UnlabelledImages(data_root=str(tmp_path), folders=['a'], ann_file='list.txt')
