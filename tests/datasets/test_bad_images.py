"""Image files that cannot be used never stop a run, and never pass in silence."""

import os
import resource

import numpy as np
import pytest
from PIL import Image

from bad_files import UNUSABLE, USABLE, picture
from mcl_mm.datasets import BadImageError, LoadAnyImage, UnlabelledImages, read_image

PIPELINE = [
    dict(type='mcl_mm.LoadAnyImage'),
    dict(type='mmpretrain.PackInputs', meta_keys=('img_path',)),
]


@pytest.fixture()
def folder(tmp_path):
    """Eight good images, b0.png to b7.png, and replacements drawn from a known seed."""
    np.random.seed(0)  # of which the first is another one than what the tests spoil
    for index in range(8):
        picture(40 + index).save(tmp_path / f'b{index}.png')
    return tmp_path


def build(folder, **kwargs):
    return UnlabelledImages(data_root=str(folder), pipeline=PIPELINE, **kwargs)


def used(sample):
    return os.path.basename(sample['data_samples'].img_path)


@pytest.mark.parametrize('kind', UNUSABLE)
def test_unusable_file_is_replaced_and_noted_with_its_reason(folder, kind):
    name, write, reason = UNUSABLE[kind]
    write(folder / name)
    names = [name, *(f'b{index}.png' for index in range(8))]
    (folder / 'list.txt').write_text('\n'.join(names))
    dataset = build(folder, ann_file='list.txt')
    sample = dataset[0]
    assert used(sample).startswith('b')
    ((path, why),) = sample['data_samples'].bad_images
    assert path == str(folder / name)
    assert why.startswith(reason), why
    assert '\n' not in why
    assert '\t' not in why
    assert [used(dataset[i]) for i in range(1, 9)] == names[1:]  # the others stay what they are
    assert 'bad_images' not in dataset[1]['data_samples']


@pytest.mark.parametrize('kind', USABLE)
def test_odd_file_is_used(tmp_path, kind):
    name, write = USABLE[kind]
    write(tmp_path / name)
    pixels = LoadAnyImage()(dict(img_path=str(tmp_path / name)))['img']
    assert pixels.shape[2] == 3
    if kind not in ('16 bits', 'smallest'):  # shows the picture, as far as JPEG and CMYK keep it
        expected = np.asarray(picture()).astype(int)[..., ::-1]
        assert np.abs(pixels - expected).mean() < 8


def test_large_jpeg_is_decoded_at_reduced_size_in_bounded_memory(tmp_path):
    image = Image.new('L', (20000, 20000), 100)
    image.paste(255, (0, 0, 10000, 10000))
    image.save(tmp_path / 'a.jpg')
    del image
    child = os.fork()
    if child == 0:  # a process of its own, whose peak memory is its own
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        image = read_image(str(tmp_path / 'a.jpg'))
        used_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        corners = [image.getpixel(xy)[0] for xy in ((0, 0), (4990, 0), (0, 4990), (4990, 4990))]
        good = image.size == (5000, 5000) and corners == [255, 100, 100, 100]
        os._exit(0 if good and used_mib < 400 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_file_without_permission(folder, monkeypatch):
    dataset = build(folder)
    (folder / 'b3.png').chmod(0)
    if os.access(folder / 'b3.png', os.R_OK):  # root reads everything: become somebody else
        folder.chmod(0o755)
        monkeypatch.chdir(folder)
        dataset = UnlabelledImages(data_root='.', pipeline=PIPELINE)
        os.seteuid(65534)
    try:
        sample = dataset[3]
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
    ((path, why),) = sample['data_samples'].bad_images
    assert os.path.basename(path) == 'b3.png'
    assert why == 'not readable: Permission denied'


def test_file_that_vanishes_after_the_search(folder):
    dataset = build(folder)
    (folder / 'b2.png').unlink()
    sample = dataset[2]
    assert used(sample) != 'b2.png'
    assert sample['data_samples'].bad_images == [
        (str(folder / 'b2.png'), 'not readable: No such file or directory')
    ]


def test_replacement_follows_from_the_seed(folder):
    (folder / 'a.jpg').write_text('text')
    dataset = build(folder)

    def replacement(seed):
        np.random.seed(seed)
        return used(dataset[0])

    drawn = [replacement(seed) for seed in range(20)]
    assert drawn == [replacement(seed) for seed in range(20)]
    assert len(set(drawn)) > 3


def test_all_files_given_up_for_one_sample_are_noted(folder, monkeypatch):
    for name in ('a0.jpg', 'a1.jpg'):
        (folder / name).write_text('text')
    dataset = build(folder)
    draws = iter([1, 0, 5])
    monkeypatch.setattr(dataset, '_rand_another', lambda: next(draws))
    sample = dataset[0]
    assert used(sample) == 'b3.png'
    names = [os.path.basename(path) for path, _ in sample['data_samples'].bad_images]
    assert names == ['a0.jpg', 'a1.jpg', 'a0.jpg']


def test_a_folder_that_is_gone_ends_with_its_name(folder):
    dataset = build(folder, max_refetch=20)
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(OSError, match=r'21 images in a row cannot be used.*Is .* still there\?'):
        dataset[0]


def test_errors_of_the_pipeline_itself_are_not_taken_for_bad_images(folder):
    def broken(results):
        raise OSError('the disk of the cache is full')

    dataset = UnlabelledImages(data_root=str(folder), pipeline=[LoadAnyImage(), broken])
    with pytest.raises(OSError, match='cache is full'):
        dataset[0]


def test_memory_that_runs_out_is_not_blamed_on_the_file(folder, monkeypatch):
    def convert(*args):
        raise MemoryError

    monkeypatch.setattr(Image.Image, 'convert', convert)
    with pytest.raises(MemoryError):
        read_image(str(folder / 'b0.png'))


def test_error_names_file_and_reason():
    error = BadImageError('x.jpg', 'empty file')
    assert str(error) == 'cannot use image x.jpg: empty file'
    assert (error.path, error.reason) == ('x.jpg', 'empty file')
