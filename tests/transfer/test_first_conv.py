"""RGB weights for other channels: gray images keep their response, red, green and blue theirs."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet18

from command_line import call, succeed
from mcl_mm.registry import MODELS
from mcl_mm.transfer import read_checkpoint
from mcl_mm.transfer.detector.judge import check_load
from mcl_mm.transfer.detector.settings import build
from mcl_mm.transfer.first_conv import convert_first_conv, first_convs

WEIGHT = torch.randn(8, 3, 7, 7, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5, 13])
def test_a_value_in_all_channels_gives_the_response_of_gray(channels):
    gray = torch.rand(2, 1, 20, 24, generator=torch.Generator().manual_seed(1))
    expected = F.conv2d(gray.expand(-1, 3, -1, -1), WEIGHT)
    converted = convert_first_conv(WEIGHT, channels)
    assert converted.shape == (8, channels, 7, 7)
    found = F.conv2d(gray.expand(-1, channels, -1, -1), converted)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('channels', [3, 4, 9])
def test_the_first_three_keep_red_green_and_blue(channels):
    converted = convert_first_conv(WEIGHT, channels) * channels / 3
    torch.testing.assert_close(converted[:, :3], WEIGHT)
    for further in converted[:, 3:].unbind(1):
        torch.testing.assert_close(further, WEIGHT.mean(dim=1))


def test_three_channels_stay_as_they_are_and_one_is_the_sum():
    assert torch.equal(convert_first_conv(WEIGHT, 3), WEIGHT)
    torch.testing.assert_close(convert_first_conv(WEIGHT, 1)[:, 0], WEIGHT.sum(dim=1))
    assert convert_first_conv(WEIGHT.half(), 5).dtype == torch.float16


BACKBONES = [
    dict(type='mmpretrain.ResNet', depth=18),
    dict(type='mmpretrain.ResNetV1d', depth=18),
    dict(type='mmpretrain.ConvNeXt', arch='atto', out_indices=(0, 1, 2, 3), gap_before_final_norm=False),
    dict(type='mmpretrain.SwinTransformer', arch='tiny'),
    dict(type='mmpretrain.TIMMBackbone', model_name='resnet18', features_only=True),
    dict(type='mmdet.RegNet', arch='regnetx_400mf'),
]  # fmt: skip


@pytest.mark.parametrize('backbone', BACKBONES, ids=lambda b: b['type'])
@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.encoder_q.'])
def test_only_the_first_layer_of_any_backbone_changes(backbone, prefix):
    network = build(backbone, 'mcl_mm')
    (name,) = first_convs({prefix + key: value for key, value in network.state_dict().items()})
    own = network.get_submodule(name.removeprefix(prefix).removesuffix('.weight'))
    first = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    assert own is first


def test_online_and_target_are_converted_alike(tiny_config, build):
    names = first_convs(build(tiny_config).state_dict())
    assert names == ['backbone.conv1.weight', 'target.backbone.conv1.weight']


def test_weights_of_another_library_start_a_run_of_four_channels(tmp_path, tiny_config):
    """From torchvision's file by `convert` into the backbone, with the response of gray images."""
    classifier = resnet18().eval()
    torch.save(classifier.state_dict(), tmp_path / 'resnet18.pth')
    succeed('convert', tmp_path / 'resnet18.pth', tmp_path / 'four.pth', '--channels', 4)
    config = dict(
        type='mmpretrain.ResNet',
        depth=18,
        in_channels=4,
        out_indices=(0, 1, 2, 3),
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'four.pth')),
    )
    backbone = MODELS.build(config)
    backbone.init_weights()
    backbone.eval()
    gray = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        x = classifier.maxpool(
            classifier.relu(classifier.bn1(classifier.conv1(gray.expand(-1, 3, -1, -1))))
        )
        expected = classifier.layer1(x)
        found = backbone(gray.expand(-1, 4, -1, -1))[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_file_says_what_is_known_of_it(tmp_path):
    weights = {'backbone.conv1.weight': WEIGHT, 'backbone.bn1.weight': torch.ones(8)}
    meta = dict(backbone=dict(type='mmpretrain.ResNet', depth=18), input=dict(channel_order='RGB'))
    torch.save(dict(state_dict=weights, meta=meta), tmp_path / 'rgb.pth')
    succeed('convert', tmp_path / 'rgb.pth', tmp_path / 'five.pth', '--channels', 5)
    converted = read_checkpoint(tmp_path / 'five.pth')
    assert converted['meta'] == dict(
        backbone=dict(type='mmpretrain.ResNet', depth=18, in_channels=5), source='rgb.pth'
    )  # not how images of RGB were scaled
    assert torch.equal(converted['state_dict']['backbone.bn1.weight'], torch.ones(8))


def test_rgb_weights_in_a_model_of_four_channels_are_refused_with_the_line_that_helps():
    model = torch.nn.Module()
    model.backbone = build(dict(type='mmdet.ResNet', depth=18, in_channels=4), 'mmdet')
    other = build(dict(type='mmdet.ResNet', depth=18), 'mmdet').state_dict()
    weights = {f'backbone.{name}': value for name, value in other.items()}
    with pytest.raises(ValueError, match=r'mcl-mm convert rgb\.pth OUT\.pth --channels 4'):
        check_load(model, weights, 'rgb.pth')


@pytest.mark.parametrize(
    ('weights', 'channels', 'words'),
    [
        ({'a.weight': torch.ones(8, 4, 3, 3)}, 4, 'no convolution takes three channels'),
        ({'a.weight': WEIGHT}, 0, 'channels must be a whole number from 1, got 0'),
    ],
)
def test_what_cannot_be_converted_is_refused_in_a_sentence(tmp_path, weights, channels, words):
    torch.save(weights, tmp_path / 'a.pth')
    said = call('convert', tmp_path / 'a.pth', tmp_path / 'b.pth', '--channels', channels)
    assert words in str(said)
    assert not (tmp_path / 'b.pth').exists()
