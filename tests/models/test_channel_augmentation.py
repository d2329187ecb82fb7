"""The augmentation of N channels against NumPy, image by image and channel by channel."""

import numpy as np
import pytest
import torch

from mcl_mm.models import ChannelAugmentation, PhotometricAugmentation


def views(count, channels, side=16, dtype=torch.float32):
    generator = torch.Generator().manual_seed(channels)
    return (torch.rand(count, channels, side, side, generator=generator) * 255).to(dtype)


def blur(band, sigma, reach):
    """Slow: each pixel as a weighted sum, edges replicated, weights cut off at ``reach``."""
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(band, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)], 'edge')
        lines = np.moveaxis(padded, axis, 0)
        out = [
            np.tensordot(weights, lines[i : i + 2 * reach + 1], 1) for i in range(band.shape[axis])
        ]
        band = np.moveaxis(np.stack(out), 0, axis)
    return band


def by_hand(images, factors, contrast, step):
    """What the plan says, in NumPy's double precision."""
    out = images.double().numpy().copy()
    sigmas = dict(zip(step.index.tolist(), step.arguments[0].tolist()))
    for n, image in enumerate(out):
        for c, band in enumerate(image):
            band = np.clip(band * float(factors[n, c]), 0, 255)
            band = np.clip(band.mean() + float(contrast[n]) * (band - band.mean()), 0, 255)
            if n in sigmas:
                band = blur(band, sigmas[n], step.arguments[1])
            image[c] = band
    return out


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 13])
@pytest.mark.parametrize('blur_prob', [0.0, 0.5, 1.0])
def test_values_are_those_of_numpy(channels, blur_prob):
    images = views(6, channels)
    augment = ChannelAugmentation(gain=0.3, blur_prob=blur_prob)
    torch.manual_seed(5)
    plan = augment.plan(6, channels, scale=0.5)
    torch.manual_seed(5)
    result = augment(images, scale=0.5)
    np.testing.assert_allclose(result.numpy(), by_hand(images, *plan), atol=2e-3)
    assert result.dtype == torch.float32


def test_without_strength_nothing_changes():
    images = views(4, 5)
    augment = ChannelAugmentation(brightness=0, contrast=0, gain=0, blur_prob=0)
    torch.testing.assert_close(augment(images), images, rtol=0, atol=1e-4)
    augment = ChannelAugmentation(jitter_prob=0, blur_prob=0)
    torch.testing.assert_close(augment(images), images, rtol=0, atol=1e-4)


def test_bytes_and_floats_give_the_same_and_the_input_stays():
    images = views(3, 4, dtype=torch.uint8)
    kept = images.clone()
    torch.manual_seed(1)
    of_bytes = ChannelAugmentation()(images)
    torch.manual_seed(1)
    assert torch.equal(ChannelAugmentation()(images.float()), of_bytes)
    assert torch.equal(images, kept)


def test_parameters_are_drawn_within_their_bounds_and_as_often_as_said():
    torch.manual_seed(0)
    augment = ChannelAugmentation(
        brightness=0.4, contrast=0.2, gain=0.1, jitter_prob=0.8, blur_prob=0.1, blur_sigma=(0.5, 2)
    )
    factors, contrast, step = augment.plan(20000, 3)
    still = (factors == 1).all(dim=1)
    assert still.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(still, contrast == 1)
    assert 0.6 * 0.9 <= factors.min() < 0.6
    assert 1.4 < factors.max() <= 1.4 * 1.1
    assert contrast.min().item() == pytest.approx(0.8, abs=0.01)
    assert contrast.max().item() == pytest.approx(1.2, abs=0.01)
    ratios = factors[~still, 0] / factors[~still, 1]  # brightness cancels: two gains
    assert (ratios.min(), ratios.max()) > (0.9 / 1.1 - 1e-6, 1.1)
    assert ratios.max() <= 1.1 / 0.9 + 1e-6
    assert len(step.index) / 20000 == pytest.approx(0.1, abs=0.01)
    assert step.arguments[0].min() >= 0.5
    assert step.arguments[0].max() <= 2


def test_an_image_changes_by_its_own_parameters_whatever_else_is_in_the_batch():
    """Rows of a plan do not mix: the first image alone, with its row, gives the same."""
    images = views(4, 4)
    augment = ChannelAugmentation(blur_prob=0)
    torch.manual_seed(3)
    factors, contrast, _ = augment.plan(4, 4)
    torch.manual_seed(3)
    whole = augment(images)
    band = (images[2, 1] * factors[2, 1]).clamp(0, 255)
    band = (band.mean() + contrast[2] * (band - band.mean())).clamp(0, 255)
    torch.testing.assert_close(whole[2, 1], band, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ('settings', 'words'),
    [
        (dict(gain=1.5), r'gain must lie in \[0, 1\]'),
        (dict(blur_prob=-0.1), r'blur_prob must lie in \[0, 1\]'),
        (dict(blur_sigma=(2, 1)), 'blur_sigma must be a range of positive numbers'),
    ],
)
def test_other_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ChannelAugmentation(**settings)


@pytest.mark.parametrize('channels', [1, 2, 4])
def test_the_augmentation_of_rgb_says_which_one_to_take(channels):
    with pytest.raises(ValueError, match=f'have {channels} channels: take ChannelAugmentation'):
        PhotometricAugmentation()(views(2, channels))
