"""The value range of the first run is that of every later one, of its validation and of its tests."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.registry import DATASETS
from PIL import Image

from mcl_mm.datasets import UnlabelledImages
from mcl_mm.engine import ValueRangeHook
from mcl_mm.engine.value_range_hook import ranges_of


def images(folder, top, **kwargs):
    """A set of 16-bit images with values up to ``top``."""
    folder.mkdir(exist_ok=True)
    for index in range(4):
        values = np.linspace(0, top, 1600).reshape(40, 40).astype(np.uint16)
        Image.fromarray(values).save(folder / f'{index}.png')
    return UnlabelledImages(data_root=str(folder), pipeline=[], **kwargs)


def runner_of(train, val=None, test=None, iteration=0):
    def loop(dataset):
        return dataset and SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))

    return SimpleNamespace(
        iter=iteration,
        train_dataloader=SimpleNamespace(dataset=train),
        val_loop=loop(val),
        test_loop=loop(test),
    )


@pytest.fixture
def saved(tmp_path):
    """What a checkpoint of a run on values up to 4000 holds."""
    checkpoint = dict(meta={})
    train = images(tmp_path / 'first', 4000)
    ValueRangeHook().before_save_checkpoint(runner_of(train), checkpoint)
    assert checkpoint['meta']['value_ranges'] == [list(train.value_range)]
    return checkpoint


def test_a_run_goes_on_with_its_range_though_images_were_added(tmp_path, saved):
    train = images(tmp_path / 'a', 9000)
    hook = ValueRangeHook()
    hook.after_load_checkpoint(None, saved)
    hook.before_train(runner_of(train, iteration=5))
    assert ranges_of(train) == saved['meta']['value_ranges']
    assert train[0]['value_range'] == train.value_range  # what the loader gets


def test_a_run_that_starts_from_weights_measures_its_own(tmp_path, saved):
    train = images(tmp_path / 'a', 9000)
    before = train.value_range
    hook = ValueRangeHook()
    hook.after_load_checkpoint(None, saved)
    hook.before_train(runner_of(train, iteration=0))
    assert train.value_range == before


def test_validation_and_test_take_the_range_of_the_training(tmp_path, saved):
    train, val, fixed = (images(tmp_path / n, top, **k) for n, top, k in
                         [('a', 4000, {}), ('b', 900, {}), ('c', 900, dict(value_range=[0, 1]))])  # fmt: skip
    hook = ValueRangeHook()
    hook.before_train(runner_of(train, val=val))
    assert val.value_range == train.value_range
    hook.before_train(runner_of(train, val=fixed))
    assert fixed.value_range == (0, 1)  # set in the config
    test = images(tmp_path / 'b', 900)
    hook.after_load_checkpoint(None, saved)
    hook.before_test(runner_of(None, test=test))
    assert ranges_of(test) == saved['meta']['value_ranges']


def test_8_bits_have_no_range(image_folder):
    train = UnlabelledImages(data_root=str(image_folder), pipeline=[])
    checkpoint = dict(meta={})
    ValueRangeHook().before_save_checkpoint(runner_of(train), checkpoint)
    assert checkpoint['meta']['value_ranges'] == []


def test_parts_that_were_measured_apart_are_refused(tmp_path):
    folders = [(tmp_path / 'a', 4000), (tmp_path / 'b', 900)]
    both = DATASETS.build(
        dict(type='ConcatDataset', datasets=[images(*folder) for folder in folders])
    )
    with pytest.raises(
        ValueError, match=r'parts of the training set .* give each part a value_range='
    ):
        ValueRangeHook().before_train(runner_of(both))
    parts = [images(*folder, value_range=[0, 4000]) for folder in folders]
    ValueRangeHook().before_train(
        runner_of(DATASETS.build(dict(type='ConcatDataset', datasets=parts)))
    )
