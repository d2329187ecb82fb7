"""A setting of a wrong kind ends in one sentence that says what to write."""

import pytest

from mcl_mm.datasets import (
    LabelledImages,
    LoadAnyImage,
    NativeViews,
    SeededSampler,
    UnlabelledImages,
)
from mcl_mm.models import ChannelsDetDataPreprocessor, MontageDataPreprocessor


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            dict(data_root=2017),
            r'data_root must be a path, got 2017: write data_root=.2017. in a config',
        ),
        (dict(data_root=2017), r'data_root=\./2017 on the command line'),
        (dict(data_root=None), "data_root must be a path, got None: write data_root='path/to/it'"),
        (dict(data_root=['a', 'b']), 'data_root must be a path, got'),
        (dict(ann_file=3), 'ann_file must be a path, got 3'),
        (
            dict(folders='train'),
            r"folders must be a list of strings, got 'train': write folders=\['train'\]",
        ),
        (dict(folders=2017), r"write folders=\['2017'\]"),
        (dict(folders=[2017]), r"write folders=\['2017'\]"),
        (dict(folders=None), 'folders must be a list of strings'),
        (dict(extensions='.jpg'), r"write extensions=\['.jpg'\]"),
        (dict(value_range=4095), 'value_range must be two numbers'),
        (dict(max_refetch=-1), 'max_refetch must be a whole number from 0, got -1'),
    ],
)
@pytest.mark.parametrize('kind', [UnlabelledImages, LabelledImages])
def test_data_sets(image_folder, kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**{'data_root': str(image_folder), 'pipeline': [], **settings})


@pytest.mark.parametrize(
    ('build', 'message'),
    [
        (lambda: LoadAnyImage(min_side='580'), "min_side must be a whole number from 1, got '580'"),
        (lambda: LoadAnyImage(min_side=0), 'min_side must be a whole number from 1, got 0'),
        (lambda: LoadAnyImage(value_range='nowhere.json'), 'nowhere.json'),
        (lambda: SeededSampler(range(3), seed='a'), "seed must be a whole number from 0, got 'a'"),
        (lambda: SeededSampler(range(3), seed=-1), 'seed must be a whole number from 0'),
        (lambda: NativeViews(side='224'), "side must be a whole number from 1, got '224'"),
        (lambda: NativeViews(side=0), 'side must be a whole number from 1, got 0'),
        (
            lambda: NativeViews(ratios=2),
            r'ratios must be a list of numbers, got 2: write ratios=\[2\]',
        ),
        (lambda: NativeViews(ratios=[0]), 'a ratio must be a whole number from 1, got 0'),
        (lambda: NativeViews(crop_ratio_range=0.2), 'crop_ratio_range must be two numbers'),
        (lambda: NativeViews(crop_ratio_range=(0.5, 0.2)), 'crop_ratio_range must be two numbers'),
        (lambda: NativeViews(crop_ratio_range=(0, 1)), 'crop_ratio_range must be two numbers'),
        (lambda: NativeViews(flip_prob=2), 'flip_prob must be a number from 0 to 1, got 2'),
    ],
)
def test_transforms_and_samplers(build, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        build()


def test_a_home_folder_is_found(image_folder, monkeypatch):
    monkeypatch.setenv('HOME', str(image_folder.parent))
    assert len(UnlabelledImages(data_root='~/images', pipeline=[])) == 24


@pytest.mark.parametrize('kind', [MontageDataPreprocessor, ChannelsDetDataPreprocessor])
@pytest.mark.parametrize(
    ('mean', 'std', 'message'),
    [
        ('x', [1, 1, 1], 'data_preprocessor.mean must be a list of numbers, one a channel'),
        ([1, 2, 3], [0, 0, 0], 'data_preprocessor.std must be a list of numbers above 0'),
        ([1, 2, 3], [1, -1, 1], 'data_preprocessor.std must be'),
        ([1, float('nan'), 3], [1, 1, 1], 'data_preprocessor.mean must be'),
        ([1, 2, 3], 1, r'got 1: write std=\[58.4, 57.1, 57.4\]'),
        ([], [], 'data_preprocessor.mean must be'),
        ([1, 2, '3'], [1, 1, 1], 'data_preprocessor.mean must be'),
    ],
)
def test_pixels(kind, mean, std, message):
    with pytest.raises(ValueError, match=message):
        kind(mean=mean, std=std)
