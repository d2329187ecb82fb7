"""Augmentation on the device against the per-image transforms of torchvision and Pillow."""

from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2 as T
from PIL import Image, ImageFilter
from torchvision.transforms import functional as pil
from torchvision.transforms.v2 import functional as V

from conftest import ROOT
from mcl_mm.models import PhotometricAugmentation, photometric
from mcl_mm.registry import MODELS

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


@pytest.fixture()
def images():
    """Coloured noise on slopes, uint8 BGR, with gray, black, white and pure pixels among them."""
    generator = torch.Generator().manual_seed(0)
    slope = torch.linspace(20, 200, 24).expand(6, 3, 24, 24)
    images = (slope + 55 * torch.randn(6, 3, 24, 24, generator=generator)).clamp(0, 255).byte()
    for index, colour in enumerate([(0, 0, 0), (255, 255, 255), (90, 90, 90), (0, 0, 255)]):
        images[:, :, index, :] = torch.tensor(colour, dtype=torch.uint8)[:, None]
    return images


def library(function, bgr, *args):
    """A torchvision function of RGB floats in [0, 1], applied to one BGR image in [0, 255]."""
    return 255 * function(bgr.flip(0) / 255, *args).flip(0)


ADJUST = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation)


@pytest.mark.parametrize('kind', range(3))
def test_mixing_is_torchvisions_with_a_factor_for_each_image(images, kind):
    x, factors = images.float(), torch.tensor([0.6, 0.8, 1.0, 1.1, 1.3, 1.4])
    ours = photometric.mix(x, torch.full((6,), kind), factors)
    for image, factor, result in zip(x, factors, ours):
        expected = library(ADJUST[kind], image, factor.item())
        torch.testing.assert_close(result, expected, atol=1e-3, rtol=0)


def test_images_of_a_batch_may_change_in_different_ways(images):
    x, kinds, factors = images.float(), torch.tensor([2, 0, 1, 1, 0, 2]), torch.full((6,), 0.7)
    ours = photometric.mix(x, kinds, factors)
    for image, kind, result in zip(x, kinds, ours):
        torch.testing.assert_close(result, library(ADJUST[kind], image, 0.7), atol=1e-3, rtol=0)


def test_hue_is_torchvisions_with_a_shift_for_each_image(images):
    x, shifts = images.float(), torch.tensor([-0.1, -0.03, 0.0, 0.02, 0.1, 0.5])
    ours = photometric.shift_hue(x, shifts)
    for image, shift, result in zip(x, shifts, ours):
        expected = library(V.adjust_hue, image, shift.item())
        torch.testing.assert_close(result, expected, atol=1e-2, rtol=0)


def test_blur_is_a_gaussian_of_its_own_for_each_image_with_replicated_edges(images):
    x, sigmas = images.float(), torch.tensor([0.1, 0.3, 0.7, 1.0, 1.6, 2.0])
    ours = photometric.gaussian_blur(x, sigmas, 8)
    padded = F.pad(x, (12,) * 4, mode='replicate')
    for image, sigma, result in zip(padded, sigmas.tolist(), ours):
        expected = V.gaussian_blur(image, [21, 21], [sigma, sigma])[:, 12:-12, 12:-12]
        torch.testing.assert_close(result, expected, atol=5e-3, rtol=0)


def test_solarisation_is_torchvisions(images):
    ours = photometric.solarize(images.float(), 128)
    assert torch.equal(ours, V.solarize(images, 128).float())


def test_grayscale_is_torchvisions(images):
    out = PhotometricAugmentation(jitter_prob=0, gray_prob=1, blur_prob=0)(images)
    for image, result in zip(images.float(), out):
        torch.testing.assert_close(result, library(V.rgb_to_grayscale, image, 3), atol=1e-3, rtol=0)


def test_pillow_differs_by_its_rounding_only(images):
    """The faithful recipe's own functions, on bytes; Pillow keeps hue in 256 steps."""
    image = Image.fromarray(np.ascontiguousarray(images[0].flip(0).permute(1, 2, 0).numpy()))
    x = images[:1].float()

    def distance(ours, theirs):
        theirs = torch.from_numpy(np.array(theirs)).permute(2, 0, 1).flip(0).float()
        return (ours[0] - theirs).abs()

    for kind, adjust in enumerate(
        (pil.adjust_brightness, pil.adjust_contrast, pil.adjust_saturation)
    ):
        ours = photometric.mix(x, torch.tensor([kind]), torch.tensor([0.7]))
        assert distance(ours, adjust(image, 0.7)).max() <= 1.6
    hue = distance(photometric.shift_hue(x, torch.tensor([0.06])), pil.adjust_hue(image, 0.06))
    assert hue.mean() < 1.5
    assert hue.max() <= 14
    # Pillow approximates the Gaussian by three box filters.
    smooth = F.interpolate(x[:, :, ::4, ::4], scale_factor=8, mode='bilinear').round()
    pixels = smooth[0].flip(0).permute(1, 2, 0).byte().numpy()
    for sigma in (0.5, 1.0, 2.0):
        blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma))
        ours = photometric.gaussian_blur(smooth, torch.tensor([sigma]), 8)
        assert distance(ours, blurred).mean() < 1


def test_jitter_is_the_librarys_in_an_order_of_its_own_for_each_image(images):
    """Follow every image through the jitter, and repeat with torchvision what happened to it."""
    batch = images.repeat(20, 1, 1, 1)
    done = [[] for _ in batch]
    torch.manual_seed(0)
    ours = batch.float()
    for step in PhotometricAugmentation().plan_jitter(len(batch)):
        kinds = [3] * len(step.index) if len(step.arguments) == 1 else step.arguments[0].tolist()
        for index, kind, amount in zip(step.index.tolist(), kinds, step.arguments[-1].tolist()):
            done[index].append((kind, amount))
        ours = photometric.update(ours, step)
    untouched = 0
    for image, changes, result in zip(batch.float(), done, ours):
        untouched += len(changes) == 3
        expected = image
        for kind, amount in changes:
            expected = library((*ADJUST, V.adjust_hue)[kind], expected, amount)
        torch.testing.assert_close(result, expected, atol=2e-2, rtol=0)
        if len(changes) == 3:  # without hue: not jittered at all
            assert torch.equal(result, image)
    assert 8 < untouched < 42  # 24 of 120 expected


def test_orders_and_amounts_are_drawn_as_torchvision_draws_them():
    count = 6000
    kinds, factors, hues = [], [], []
    turns = torch.full((count,), -1)
    torch.manual_seed(0)
    for step in PhotometricAugmentation(jitter_prob=1).plan_jitter(count):
        if step.change is photometric.shift_hue:
            turns[step.index] = len(kinds)
            hues.append(step.arguments[0])
        else:
            kinds.append(step.arguments[0])
            factors.append(step.arguments[1])
    kinds, factors, hues = torch.stack(kinds, 1), torch.stack(factors, 1), torch.cat(hues)
    orders = Counter((turn, *kind) for turn, kind in zip(turns.tolist(), kinds.tolist()))
    assert len(orders) == 24
    spread = 5 * (count / 24) ** 0.5
    assert all(abs(times - count / 24) < spread for times in orders.values())
    quantiles = torch.linspace(0, 1, 11)
    for kind, strength in enumerate((0.4, 0.4, 0.2)):
        drawn = factors[kinds == kind].quantile(quantiles)
        torch.testing.assert_close(drawn, 1 + strength * (2 * quantiles - 1), atol=0.03, rtol=0)
    torch.testing.assert_close(
        hues.quantile(quantiles), 0.1 * (2 * quantiles - 1), atol=0.01, rtol=0
    )


DRAWN = [
    ('shift_hue', [1, 5], [0.023170, -0.036647]),
    ('mix', [*range(6)], [2, 2, 0, 2, 1, 0], [0.911301, 1.198827, 1, 0.844939, 1.180989, 1.120843]),
    ('shift_hue', [3], [0.096019]),
    ('mix', [*range(6)], [0, 1, 2, 1, 2, 2], [0.985567, 1.158753, 1, 0.722766, 1.080432, 1.109794]),
    ('shift_hue', [0], [0.003818]),
    ('mix', [*range(6)], [1, 0, 1, 0, 0, 1], [1.255824, 1.054037, 1, 0.793367, 0.763059, 0.949513]),
    ('shift_hue', [4], [-0.077062]),
    ('grayscale', []),
    ('gaussian_blur', [0, 1, 2], [0.521444, 0.779811, 0.134054], 4),
    ('solarize', [0], 128),
]


def test_what_a_seed_draws_stays():
    """A run that is resumed after an update of this package goes on with the same images."""
    torch.manual_seed(0)
    steps = PhotometricAugmentation(blur_prob=0.5, solarize_prob=0.2).plan(6, scale=0.5)
    assert len(steps) == len(DRAWN)
    for step, (name, index, *arguments) in zip(steps, DRAWN):
        assert (step.change.__name__, step.index.tolist()) == (name, index)
        assert len(step.arguments) == len(arguments)
        for ours, expected in zip(step.arguments, arguments):
            ours = ours.tolist() if torch.is_tensor(ours) else ours
            assert ours == pytest.approx(expected, abs=1e-6)


def test_probabilities():
    """A share of the images, each drawn on its own, as the per-image pipelines have it."""
    count = 4000
    for name, probability, unlike in (
        ('jitter_prob', 0.8, lambda x, y: (x != y).flatten(1).any(1)),
        ('gray_prob', 0.2, lambda x, y: (x[:, 0] == x[:, 2]).flatten(1).all(1)),
        ('blur_prob', 0.1, lambda x, y: (x != y).flatten(1).any(1)),
        ('solarize_prob', 0.2, lambda x, y: (x != y).flatten(1).any(1)),
    ):
        torch.manual_seed(1)
        off = dict(jitter_prob=0, gray_prob=0, blur_prob=0, solarize_prob=0)
        transform = PhotometricAugmentation(**{**off, name: probability}, blur_sigma=(1, 2))
        x = torch.randint(0, 256, (count, 3, 4, 4)).byte()
        changed = unlike(transform(x), x.float()).float()
        spread = 4 * (probability * (1 - probability) / count) ** 0.5
        assert changed.mean().item() == pytest.approx(probability, abs=spread), name
        # Neighbours in the batch do not share their fate.
        both = (changed[1:] * changed[:-1]).mean().item()
        assert both == pytest.approx(probability**2, abs=0.03), name


@pytest.mark.parametrize('side', [0, 1], ids='qk')
def test_results_are_distributed_as_those_of_the_per_image_transforms(side):
    """Mean, contrast and saturation of one image after 2500 draws, quantile by quantile."""
    from mmengine.config import Config

    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e_fast.py').model.data_preprocessor
    ours = MODELS.build(dict(cfg.photometric[side], type='mcl_mm.PhotometricAugmentation'))
    theirs = T.Compose(
        [
            T.RandomApply([T.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            T.RandomGrayscale(p=0.2),
            T.RandomApply([T.GaussianBlur(9, (0.1, 2.0))], p=(1.0, 0.1)[side]),
            T.RandomSolarize(128 / 255, p=(0.0, 0.2)[side]),
        ]
    )
    generator = torch.Generator().manual_seed(3)
    small = torch.randint(0, 256, (1, 3, 3, 3), generator=generator).float()
    image = F.interpolate(small, size=12, mode='bilinear')[0]
    torch.manual_seed(0)
    draws = 2500
    a = ours(image.expand(draws, -1, -1, -1))
    b = 255 * torch.stack([theirs(image.flip(0) / 255).flip(0) for _ in range(draws)])
    quantiles = torch.linspace(0.05, 0.95, 10)
    for statistic in (
        lambda x: x.mean((1, 2, 3)),
        lambda x: x.mean(1).flatten(1).std(1),
        lambda x: (x.amax(1) - x.amin(1)).mean((1, 2)),
        lambda x: x[:, 0].mean((1, 2)) - x[:, 2].mean((1, 2)),
        lambda x: (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3)),
    ):
        x, y = statistic(a), statistic(b)
        spread = y.quantile(0.95) - y.quantile(0.05)
        difference = (x.quantile(quantiles) - y.quantile(quantiles)).abs().max() / spread
        assert difference < 0.08


def test_nothing_to_do_changes_nothing(images):
    out = PhotometricAugmentation(jitter_prob=0, gray_prob=0, blur_prob=0)(images)
    assert torch.equal(out, images.float())


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_input_stays_and_output_is_float_in_range(images, dtype):
    x = images.to(dtype)
    before = x.clone()
    torch.manual_seed(0)
    with torch.autocast('cpu', torch.bfloat16):  # as under AmpOptimWrapper
        out = PhotometricAugmentation(solarize_prob=0.5)(x)
    torch.manual_seed(0)
    exact = PhotometricAugmentation(solarize_prob=0.5)(x)
    assert torch.equal(x, before)
    assert out.dtype == torch.float32
    assert torch.equal(out, exact)
    assert 0 <= out.min() < out.max() <= 255.001


def test_sigma_follows_the_side_of_the_view():
    seen = []
    for scale in (1, 1 / 8):
        torch.manual_seed(0)
        *_, blur, _ = PhotometricAugmentation().plan(1200, scale=scale)
        assert blur.change is photometric.gaussian_blur
        sigma, reach = blur.arguments
        assert 4 * sigma.max() <= reach < 4 * sigma.max() + 1
        seen.append(sigma)
    full, eighth = seen
    torch.testing.assert_close(eighth, full / 8)
    quantiles = torch.linspace(0, 1, 11)
    torch.testing.assert_close(full.quantile(quantiles), 0.1 + 1.9 * quantiles, atol=0.15, rtol=0)


def test_scaled_blur_of_a_small_view_is_the_blur_of_the_large_one_shrunk():
    """Comparable strength: far nearer than leaving the small view unblurred."""
    generator = torch.Generator().manual_seed(0)
    large = F.interpolate(
        255 * torch.rand(1, 3, 32, 32, generator=generator), size=128, mode='bilinear'
    )
    shrink = dict(size=64, mode='bilinear', antialias=True)
    small = F.interpolate(large, **shrink)
    expected = F.interpolate(photometric.gaussian_blur(large, torch.tensor([2.0]), 8), **shrink)
    scaled = photometric.gaussian_blur(small, torch.tensor([1.0]), 4)
    error, effect = (scaled - expected).abs().mean(), (small - expected).abs().mean()
    assert error < 0.05 * effect


def test_same_seed_same_images_and_other_seed_others(images):
    def run(seed):
        torch.manual_seed(seed)
        return PhotometricAugmentation()(images)

    assert torch.equal(run(0), run(0))
    assert not torch.equal(run(0), run(1))


@NEEDS_GPU
def test_gpu_computes_what_the_cpu_does(images):
    torch.manual_seed(0)
    expected = PhotometricAugmentation(solarize_prob=0.2)(images)
    torch.manual_seed(0)
    ours = PhotometricAugmentation(solarize_prob=0.2).cuda()(images.cuda())
    close = (ours.cpu() - expected).abs() < 0.05  # solarisation jumps at its threshold
    assert close.float().mean() > 0.999


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(blur_prob=1.5), r'blur_prob must lie in \[0, 1\], got 1.5'),
        (dict(hue=0.6), r'hue must lie in \[0, 0.5\]'),
        (dict(brightness=-1), r'brightness must lie in \[0, 1\]'),
        (dict(blur_sigma=(0, 2)), 'blur_sigma must be a range of positive numbers'),
    ],
)
def test_impossible_settings(arguments, message):
    with pytest.raises(ValueError, match=message):
        PhotometricAugmentation(**arguments)


def test_batch_that_turns_gray_as_a_whole_goes_on():
    """Gray maps own their memory: later steps change some of their images in place."""
    torch.manual_seed(0)
    views = torch.randint(0, 256, (4, 3, 16, 16)).byte()
    augment = PhotometricAugmentation(gray_prob=1.0, blur_prob=0.5, solarize_prob=0.5)
    for _ in range(10):
        out = augment(views)
        torch.testing.assert_close(out[:, :1].expand_as(out), out)
