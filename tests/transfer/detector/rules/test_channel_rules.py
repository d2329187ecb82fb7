"""The rules about weights of N channels, each trap alone; RGB has rules of its own."""

import copy

import pytest

from conftest import build_detector, tiny_detector
from tiny_detectors import FASTER_RCNN, META, deeper, examine, exported, follow, ids

RANGE = [[0.0, 100.0], [1.0, 200.0], [2.0, 300.0], [3.0, 400.0]]
INPUT = dict(
    channel_order='BGR',
    channels=4,
    mean=[1.0, 2.0, 3.0, 4.0],
    std=[5.0, 6.0, 7.0, 8.0],
    value_ranges=[RANGE],
)
READER = dict(type='mcl_mm.LoadAnyImage', channels=4, value_range=RANGE)


def four(cfg):
    """A detector that is as it should be."""
    cfg = deeper(cfg)
    cfg.model.backbone.in_channels = 4
    cfg.model.data_preprocessor = dict(
        type='mcl_mm.ChannelsDetDataPreprocessor',
        mean=INPUT['mean'],
        std=INPUT['std'],
        pad_size_divisor=32,
    )
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[loader].dataset.pipeline[0] = copy.deepcopy(READER)
    return cfg


@pytest.fixture(scope='module')
def export():
    """Weights of four channels."""
    weights = exported(50)
    detector = build_detector(four(tiny_detector(FASTER_RCNN)).model)
    conv = detector.state_dict()['backbone.conv1.weight']
    state_dict = {**weights['state_dict'], 'backbone.conv1.weight': conv}
    return dict(state_dict=state_dict, meta=dict(META, input=INPUT))


def spoil(path, value):
    return lambda cfg: cfg.merge_from_dict({path: value})


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (spoil('model.data_preprocessor.mean', [1.0, 2.0, 3.0, 9.0]), 'model.data_preprocessor'),
        (spoil('model.data_preprocessor.std', [5.0, 6.0, 7.0, 9.0]), 'model.data_preprocessor'),
        (spoil('train_dataloader.dataset.pipeline.0.value_range', [[0, 1]] * 4), 'train_dataloader'),
        (spoil('test_dataloader.dataset.pipeline.0.channels', 3), 'test_dataloader.dataset.pipeline.0'),
        (spoil('val_dataloader.dataset.pipeline.0',
               dict(_delete_=True, type='LoadImageFromFile', backend_args=None)),
         'val_dataloader.dataset.pipeline.0'),
    ],
)  # fmt: skip
def test_each_way_to_other_images_is_seen_alone_and_cured(export, change, says):
    cfg = four(tiny_detector(FASTER_RCNN))
    assert examine(cfg, export).traps == []
    change(cfg)
    diagnosis = examine(cfg, export)
    assert ids(diagnosis.traps) == ['other-channels']
    assert diagnosis.traps[0].text.split(': ')[-1].startswith(says)
    assert examine(follow(cfg, diagnosis.traps[0].fix), export).traps == []


def test_a_detector_of_rgb_gets_everything(export):
    cfg = deeper(tiny_detector(FASTER_RCNN))
    diagnosis = examine(cfg, export)
    assert ids(diagnosis.errors) == ['other-shape']
    assert ids(diagnosis.traps) == ['other-channels']
    cured = examine(follow(cfg, diagnosis.traps[0].fix), export)
    assert (cured.traps, cured.errors) == ([], [])


def test_colours_of_rgb_are_left_out_and_the_rest_stays(export):
    cfg = four(tiny_detector(FASTER_RCNN))
    before = copy.deepcopy(cfg.train_dataloader.dataset.pipeline)
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='PhotoMetricDistortion'))
    cfg.train_dataloader.dataset.pipeline[0] = dict(type='LoadImageFromFile', backend_args=None)
    diagnosis = examine(cfg, export)
    assert ids(diagnosis.traps) == ['other-channels']
    cured = follow(cfg, diagnosis.traps[0].fix)
    assert examine(cured, export).traps == []
    assert cured.train_dataloader.dataset.pipeline == before


def test_the_pipelines_inside_of_wrapped_sets_are_cured_too(export):
    cfg = four(tiny_detector(FASTER_RCNN))
    images = cfg.train_dataloader.dataset
    other = copy.deepcopy(images)
    other.pipeline[0] = dict(type='LoadImageFromFile')
    other.pipeline.insert(2, dict(type='PhotoMetricDistortion'))
    concat = dict(type='ConcatDataset', datasets=[images, other])
    cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=concat)
    diagnosis = examine(cfg, export)
    assert ids(diagnosis.traps) == ['other-channels']
    cured = follow(cfg, diagnosis.traps[0].fix)
    one, two = cured.train_dataloader.dataset.dataset.datasets
    assert one.pipeline == two.pipeline == images.pipeline


def test_other_channels_of_one_file_are_an_error_with_the_line_that_helps(export):
    cfg = four(tiny_detector(FASTER_RCNN))
    diagnosis = examine(cfg, exported(50))
    assert ids(diagnosis.errors) == ['other-shape']
    assert diagnosis.errors[0].fix == 'mcl-mm convert FILE OUT.pth --channels 4, and take OUT.pth'
