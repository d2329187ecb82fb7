import pytest
import torch

from mcl_mm.models import MontageTransform
from mcl_mm.registry import MODELS

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def make(**kwargs):
    return MODELS.build(dict(type='mcl_mm.MontageDataPreprocessor', mean=MEAN, std=STD, **kwargs))


def test_equals_normalising_views_first(views):
    """Montage and normalisation commute."""
    v = views(8)
    torch.manual_seed(0)
    out = make()(dict(inputs=v, data_samples=['a']))
    torch.manual_seed(0)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    normalised = [(view.float() - mean) / std for view in v]
    expected = MontageTransform()(normalised[:4], normalised[4:])
    for ours, theirs in zip(out['inputs'], expected):
        torch.testing.assert_close(ours, theirs)
    assert out['data_samples'] == ['a']


def test_first_half_of_the_views_is_side_q(views):
    v = views(2)
    q, k = make()(dict(inputs=v))['inputs']
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(q.sheets[0] * std + mean, v[0].float())
    torch.testing.assert_close(k.sheets[0] * std + mean, v[4].float())


def test_channels_are_turned_to_rgb(views):
    v = views(2)
    q, _ = make(bgr_to_rgb=True)(dict(inputs=v))['inputs']
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(q.sheets[0] * std + mean, v[0].flip(1).float())


def test_montage_is_configurable(views):
    montage = dict(type='MontageTransform', ratios=(1, 4), appearances=(1, 2))
    v = views(8)
    q, _ = make(montage=montage)(dict(inputs=v[:4]))['inputs']
    assert [len(s) for s in q.sheets] == [8, 1]


def test_side_must_be_a_multiple_of_32(views):
    with pytest.raises(ValueError, match='multiple of 32 pixels, got 72.*RandomResizedCrop'):
        make()(dict(inputs=views(2, side=72)))
