"""Labels from folders and lists, and what is refused."""

import os
import shutil

import pytest

from conftest import draw_images
from mcl_mm.datasets import LabelledImages

PIPELINE = [
    dict(type='mcl_mm.LoadAnyImage'),
    dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
]


@pytest.fixture
def root(tmp_path):
    """Classes 'a', 'b' and 'c' of 2, 3 and 1 images, one of them nested."""
    for seed, (name, count) in enumerate(dict(b=3, a=2, c=1).items()):
        draw_images(tmp_path / name, count, seed=seed)
    (tmp_path / 'b/deep').mkdir()
    (tmp_path / 'b/0002.jpg').rename(tmp_path / 'b/deep/0002.jpg')
    (tmp_path / 'empty').mkdir()
    return tmp_path


def write_list(root, text):
    path = root / 'list.txt'
    path.write_text(text)
    return str(path)


def test_folders_are_classes_in_order_of_their_names(root):
    data = LabelledImages(data_root=str(root), pipeline=PIPELINE)
    assert data.classes == ('a', 'b', 'c')
    assert data.num_classes == 3
    for index in range(len(data)):
        sample = data[index]['data_samples']
        folder = os.path.relpath(sample.img_path, root).split(os.sep)[0]
        assert data.classes[sample.gt_label.item()] == folder
    assert [data.get_data_info(i)['gt_label'] for i in range(6)] == [0, 0, 1, 1, 1, 2]


def test_folders_without_images_are_warned_of(root, monkeypatch):
    warned = []
    monkeypatch.setattr(
        'mcl_mm.datasets.labelled_images.print_log', lambda text, *_: warned.append(text)
    )
    (root / '.cache').mkdir()
    LabelledImages(data_root=str(root), pipeline=PIPELINE)
    assert warned == [f'folders of {root} without an image are no classes (1): empty']
    LabelledImages(data_root=str(root), folders=['a', 'b'], pipeline=PIPELINE)
    (root / 'empty').rmdir()
    LabelledImages(data_root=str(root), pipeline=PIPELINE)
    assert len(warned) == 1


def test_a_list_gives_labels_and_paths_may_have_spaces(root):
    (root / 'a/0000.jpg').rename(root / 'a/of two.jpg')
    listed = write_list(root, 'a/of two.jpg 4\nb/0001.jpg 0\n')
    data = LabelledImages(data_root=str(root), ann_file=listed, pipeline=PIPELINE)
    assert (data.classes, data.num_classes) == (None, 5)
    assert [data[i]['data_samples'].gt_label.item() for i in range(2)] == [4, 0]
    assert data[0]['data_samples'].img_path.endswith('of two.jpg')


def test_a_list_without_labels_takes_them_from_the_folders(root):
    listed = write_list(root, 'c/0000.jpg\nb/deep/0002.jpg\nc/no such 7.jpg\n')
    data = LabelledImages(data_root=str(root), ann_file=listed, pipeline=PIPELINE)
    assert data.classes == ('b', 'c')
    assert [data.get_data_info(i)['gt_label'] for i in range(3)] == [1, 0, 1]


def test_what_stands_in_for_a_bad_image_brings_its_own_label(root):
    (root / 'a/0000.jpg').write_text('no image')
    data = LabelledImages(data_root=str(root), pipeline=PIPELINE)
    sample = data[0]['data_samples']
    assert sample.bad_images[0][0].endswith('a/0000.jpg')
    folder = os.path.relpath(sample.img_path, root).split(os.sep)[0]
    assert data.classes[sample.gt_label.item()] == folder


def test_nothing_stands_in_for_a_bad_image_in_a_test(root):
    (root / 'a/0000.jpg').write_text('no image')
    data = LabelledImages(data_root=str(root), pipeline=PIPELINE, test_mode=True)
    with pytest.raises(OSError, match=r'a/0000\.jpg cannot be tested on'):
        data[0]


def test_an_image_beside_the_classes_has_no_label(root):
    draw_images(root, 1)
    with pytest.raises(ValueError, match=r'0000\.jpg has no label: it lies beside the folders'):
        LabelledImages(data_root=str(root))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a/0000.jpg 0\nb/0000.jpg\n', 'line 2 of .*list.txt has no label'),
        ('a/0000.jpg cat\nb/0000.jpg 1\n', 'line 1 of .* no label'),
        ('a/0000.jpg\n0000.jpg\n', '0000.jpg has no label: it lies beside the folders'),
        ('a/0000.jpg 0\nb/0000.jpg -1\n', 'line 2 of .* integer from 0'),
        ('a/0000.jpg 1\nb/0000.jpg 1\n', 'all 2 images of .* are of one class'),
    ],
)
def test_bad_lists(root, text, message):
    with pytest.raises(ValueError, match=message):
        LabelledImages(data_root=str(root), ann_file=write_list(root, text))


def test_one_class_is_refused(root):
    for other in 'ac':
        shutil.rmtree(root / other)
    with pytest.raises(ValueError, match='all 3 images of .* are of one class'):
        LabelledImages(data_root=str(root))


def test_classes_may_be_named_though_one_lacks_images(root):
    data = LabelledImages(
        data_root=str(root), pipeline=PIPELINE, classes=['c', 'empty', 'b', 'a'], test_mode=True
    )
    assert data.classes == ('c', 'empty', 'b', 'a')
    assert [data.get_data_info(i)['gt_label'] for i in range(6)] == [3, 3, 2, 2, 2, 0]
    with pytest.raises(ValueError, match='folders that are not among classes: b, c'):
        LabelledImages(data_root=str(root), classes=['a', 'empty'])


def test_two_folders_are_enough(root):
    shutil.rmtree(root / 'c')
    data = LabelledImages(data_root=str(root), pipeline=PIPELINE)
    assert (data.num_classes, [data.get_cat_ids(i) for i in (0, 4)]) == (2, [[0], [1]])


def test_a_list_of_another_folder_needs_labels(root, tmp_path_factory):
    far = draw_images(tmp_path_factory.mktemp('far'), 1)
    with pytest.raises(
        ValueError, match=r'0000.jpg has no label: it lies outside .* behind each path'
    ):
        LabelledImages(
            data_root=str(root), ann_file=write_list(root, f'{far}/0000.jpg\na/0000.jpg\n')
        )


def test_labels_behind_tabs_in_a_list_of_windows(root):
    (root / 'list.txt').write_bytes(b'\xef\xbb\xbfa/0000.jpg\t2\r\n\r\nb\\0001.jpg\t0\r\n')
    data = LabelledImages(data_root=str(root), ann_file='list.txt', pipeline=PIPELINE)
    assert [data[i]['data_samples'].gt_label.item() for i in range(2)] == [2, 0]
