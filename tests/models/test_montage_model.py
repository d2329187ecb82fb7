"""The parts of a model fit each other, or are refused."""

import pytest
import torch


def test_neck_takes_the_channels_of_the_backbone(tiny_config, build):
    expected = tiny_config['neck'].pop('in_channels')
    model = build(tiny_config)
    assert [conv.in_channels for conv in model.neck.fpn.lateral_convs] == expected
    assert 'in_channels' not in tiny_config['neck']
    assert model.backbone.bn1.num_batches_tracked == 0
    assert model.backbone.bn1.running_mean.eq(0).all()
    assert model.backbone.training


def test_backbones_with_other_stages_are_refused(tiny_config, build):
    del tiny_config['neck']['in_channels']
    tiny_config['backbone']['out_indices'] = (1, 2, 3)
    with pytest.raises(ValueError, match=r'stride \[8, 16, 32\].*out_indices'):
        build(tiny_config)


@pytest.mark.parametrize(
    ('part', 'setting', 'message'),
    [
        ('data_preprocessor', dict(montage=dict(type='MontageTransform', ratios=(1, 2, 4, 16))),
         r'ratios must be 1, 2, 4, .* got \(1, 2, 4, 16\)'),
        ('data_preprocessor',
         dict(montage=dict(type='MontageTransform', ratios=(1, 2, 4), appearances=(1, 1, 1))),
         r'montage \(3 ratios\) and head \(4 loss_weights\)'),
        ('head', dict(loss_weights=(0.5, 0.5)), r'head \(2 loss_weights\)'),
        ('neck', dict(in_channels=[8, 16, 32]), 'at most the 3 of the neck'),
    ],
)  # fmt: skip
def test_parts_that_differ_in_their_levels(tiny_config, build, part, setting, message):
    tiny_config[part].update(setting)
    with pytest.raises(ValueError, match=message):
        build(tiny_config)


def test_extract_feat_is_the_pyramid(tiny_config, build):
    model = build(tiny_config).eval()
    images = torch.randn(2, 3, 64, 96)
    maps = model(images, mode='tensor')
    assert [tuple(m.shape) for m in maps] == [(2, 8, 64 // s, 96 // s) for s in (4, 8, 16, 32)]
    torch.testing.assert_close(maps, model.neck.fpn(model.backbone(images)))
