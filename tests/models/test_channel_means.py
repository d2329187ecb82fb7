"""A mean for each channel, in pre-training and in detectors; three and one as MMEngine has them."""

import numpy as np
import pytest
import torch
from mmdet.models import DetDataPreprocessor
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import TRANSFORMS, DefaultScope
from mmpretrain.models import SelfSupDataPreprocessor

from mcl_mm.models import ChannelsDetDataPreprocessor, MontageDataPreprocessor
from mcl_mm.models.montage_model import stage_channels
from mcl_mm.registry import MODELS
from mcl_mm.transfer.detector.settings import build

MEAN, STD = [10.0, 20.0, 30.0, 40.0, 50.0], [1.0, 2.0, 3.0, 4.0, 5.0]
RGB = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


def test_each_channel_of_plain_images_by_its_own():
    images = torch.rand(2, 5, 32, 32) * 255
    given = dict(inputs=images, data_samples=None)
    found = MontageDataPreprocessor(mean=MEAN, std=STD)(given)['inputs']
    for c in range(5):
        torch.testing.assert_close(found[:, c], (images[:, c] - MEAN[c]) / STD[c])


def test_each_channel_of_a_detectors_images_by_its_own_and_padding_after():
    images = [torch.rand(5, 30, 40) * 255, torch.rand(5, 40, 30) * 255]
    found = ChannelsDetDataPreprocessor(mean=MEAN, std=STD, pad_size_divisor=32)(
        dict(inputs=images)
    )['inputs']
    assert found.shape == (2, 5, 64, 64)
    for n, image in enumerate(images):
        h, w = image.shape[1:]
        for c in range(5):
            torch.testing.assert_close(found[n, c, :h, :w], (image[c] - MEAN[c]) / STD[c])
        assert found[n, :, h:].eq(0).all()


@pytest.mark.parametrize('settings', [RGB, dict(mean=[9.0], std=[3.0]), {}])
def test_rgb_and_one_mean_are_as_they_were_to_the_bit(settings):
    images = (torch.rand(2, 3, 32, 32) * 255).byte()
    ours = MontageDataPreprocessor(**settings)(dict(inputs=images, data_samples=None))
    theirs = SelfSupDataPreprocessor(**settings)(dict(inputs=images, data_samples=None))
    assert torch.equal(ours['inputs'], theirs['inputs'])
    if len(settings.get('mean', RGB)) == 1:
        return
    ours = ChannelsDetDataPreprocessor(**settings)(dict(inputs=list(images)))
    theirs = DetDataPreprocessor(**settings)(dict(inputs=list(images)))
    assert torch.equal(ours['inputs'], theirs['inputs'])


@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('kind', [MontageDataPreprocessor, ChannelsDetDataPreprocessor])
def test_images_of_other_channels_are_refused(kind, channels):
    """One channel would otherwise become five without a word."""
    images = torch.rand(2, channels, 32, 32)
    data = dict(inputs=list(images), data_samples=None)
    if kind is MontageDataPreprocessor:
        data['inputs'] = images
    with pytest.raises(
        ValueError, match=f'images of {channels} channels, and the model takes 5: set channels=5'
    ):
        kind(mean=MEAN, std=STD)(data)


def test_one_mean_is_of_one_channel_where_the_model_takes_one(tiny_config):
    with pytest.raises(ValueError, match='images of 3 channels, and the model takes 1'):
        ChannelsDetDataPreprocessor(mean=[9.0], std=[1.0])(dict(inputs=[torch.rand(3, 32, 32)]))
    config = dict(tiny_config, backbone=dict(tiny_config['backbone'], in_channels=1))
    config['data_preprocessor'] = dict(
        tiny_config['data_preprocessor'], mean=[9.0], std=[1.0], bgr_to_rgb=False
    )
    model = MODELS.build(config)
    with pytest.raises(ValueError, match='images of 3 channels, and the model takes 1'):
        model.data_preprocessor(dict(inputs=torch.rand(2, 3, 32, 32), data_samples=None))


def test_means_and_deviations_of_other_numbers_and_a_swap_are_refused():
    with pytest.raises(ValueError, match='mean has 5 channels and std 4'):
        MontageDataPreprocessor(mean=MEAN, std=STD[:4])
    with pytest.raises(ValueError, match='set bgr_to_rgb=False'):
        ChannelsDetDataPreprocessor(mean=MEAN, std=STD, bgr_to_rgb=True)


BACKBONES = [
    dict(type='mmpretrain.ResNet', depth=18, stem_channels=8, base_channels=8),
    dict(type='mmpretrain.ResNetV1d', depth=18, stem_channels=8, base_channels=8),
    dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 24, 32]),
        gap_before_final_norm=False,
    ),
    dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8]),
    ),
    dict(type='mmpretrain.TIMMBackbone', model_name='resnet18', features_only=True),
    dict(type='mmdet.ResNet', depth=18, stem_channels=8, base_channels=8),
    dict(type='mmdet.PyramidVisionTransformerV2', embed_dims=8, num_layers=[1, 1, 1, 1]),
]


@pytest.mark.parametrize('backbone', BACKBONES, ids=lambda b: b['type'])
@pytest.mark.parametrize('channels', [1, 3, 6])
def test_backbones_of_any_channels_have_their_stages_found(backbone, channels):
    settings = dict(backbone, in_channels=channels)
    if 'timm' not in backbone['type'].lower():
        settings['out_indices'] = (0, 1, 2, 3)
    else:
        settings['out_indices'] = (1, 2, 3, 4)
    network = build(settings, 'mcl_mm')
    assert len(stage_channels(network, channels=channels)) == 4
    with pytest.raises(ValueError, match='does not run'):
        stage_channels(network, channels=channels + 1)


def test_a_model_whose_means_and_backbone_differ_is_refused(tiny_config):
    config = dict(tiny_config)
    config['data_preprocessor'] = dict(
        tiny_config['data_preprocessor'], mean=MEAN, std=STD, bgr_to_rgb=False
    )
    with pytest.raises(
        ValueError, match=r'means of 5 channels and the backbone takes 3: set .*in_channels=5'
    ):
        MODELS.build(config)


@pytest.mark.parametrize('channels', [1, 2, 5])
def test_detectors_transforms_take_any_channels(tmp_path, channels):
    """MMDetection's resize and flip of a file, against NumPy; OpenCV drops a single channel."""
    values = np.random.default_rng(0).random((40, 60, channels)).astype(np.float32)
    np.save(tmp_path / 'a.npy', values)
    steps = [
        dict(type='mcl_mm.LoadAnyImage', channels=channels, value_range=[0, 1]),
        dict(type='Resize', scale=(60, 40), keep_ratio=True),
        dict(type='RandomFlip', prob=1.0),
        dict(type='PackDetInputs', meta_keys=('img_shape',)),
    ]
    with DefaultScope.overwrite_default_scope('mmdet'):
        packed = Compose([TRANSFORMS.build(s) for s in steps])(
            dict(img_path=str(tmp_path / 'a.npy'))
        )
    mean, std = [float(c) for c in range(channels)], [2.0] * channels
    given = ChannelsDetDataPreprocessor(mean=mean, std=std)(pseudo_collate([packed]))['inputs']
    expected = (values[:, ::-1] * 255 - np.array(mean)) / 2
    np.testing.assert_allclose(given[0].permute(1, 2, 0).numpy(), expected, atol=1e-3)
