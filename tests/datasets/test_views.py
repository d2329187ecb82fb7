"""The views' augmentations against the reference's: torchvision and Pillow.

Reference: torchvision's RandomResizedCrop (bilinear, antialiased, on Pillow images), horizontal flip,
ColorJitter, grayscale; Pillow's Gaussian blur with a radius drawn from 0.1 to 2.0; Pillow's solarisation.
"""

import numpy as np
import pytest
import torchvision.transforms.functional as F
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image, ImageFilter, ImageOps
from torchvision.transforms import InterpolationMode, RandomResizedCrop

from conftest import ROOT
from mcl_mm.registry import TRANSFORMS

CROP, FLIP, JITTER, GRAY, BLUR, SOLARIZE = range(6)


def to_pil(bgr):
    return Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))


def to_bgr(pil):
    return np.asarray(pil)[..., ::-1]


@pytest.fixture(scope='module')
def sides():
    """The transforms of sides q and k, as the recipe's workers build them."""
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    pipelines = cfg.train_dataloader.dataset.pipeline[1].transforms
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        return [[TRANSFORMS.build(t) for t in pipeline] for pipeline in pipelines]


@pytest.fixture()
def image():
    """Noise with structure, no two neighbouring pixels alike, uint8 BGR as the loader gives it."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :64]
    smooth = np.stack([2 * x + y, 4 * y, 255 - 3 * x], axis=-1)
    return (smooth + rng.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8)


def share_changed(transform, image, draws=1500):
    changed = sum(
        not np.array_equal(transform(dict(img=image.copy()))['img'], image) for _ in range(draws)
    )
    return changed / draws


@pytest.mark.parametrize('side', [0, 1], ids='qk')
def test_probabilities(sides, image, side):
    np.random.seed(0)
    image = image[:8, :12]
    expected = {FLIP: 0.5, JITTER: 0.8, GRAY: 0.2, BLUR: (1.0, 0.1)[side], SOLARIZE: (0, 0.2)[side]}
    for index, probability in expected.items():
        if index == SOLARIZE and side == 0:
            assert len(sides[0]) == 5  # no solarisation on side q
            continue
        if index == BLUR:  # the smallest radii leave every pixel as it is
            share = 1 - np.mean([sides[side][BLUR].random_disable() for _ in range(1500)])
        else:
            share = share_changed(sides[side][index], image)
        spread = 4 * (probability * (1 - probability) / 1500) ** 0.5
        assert abs(share - probability) <= spread + 0.002, index


def test_crop_area_and_aspect_ratio_are_drawn_as_torchvision_draws_them(sides):
    np.random.seed(0)
    big = np.zeros((1000, 1000, 3), np.uint8)
    ours = np.array([sides[0][CROP].rand_crop_params(big)[2:] for _ in range(3000)])
    pil = Image.fromarray(big)
    theirs = np.array(
        [RandomResizedCrop.get_params(pil, [0.2, 1.0], [3 / 4, 4 / 3])[2:] for _ in range(3000)]
    )
    for h, w in (ours.T, theirs.T):
        assert 0.19 < (h * w / 1e6).min() < (h * w / 1e6).max() <= 1
        assert 0.74 < (w / h).min() < (w / h).max() < 1.35
    quantiles = np.linspace(0.05, 0.95, 10)
    for statistic in (lambda p: p[:, 0] * p[:, 1] / 1e6, lambda p: np.log(p[:, 1] / p[:, 0])):
        difference = np.quantile(statistic(ours), quantiles) - np.quantile(
            statistic(theirs), quantiles
        )
        assert np.abs(difference).max() < 0.04


def test_crop_interpolates_as_torchvision_does(sides, image, monkeypatch):
    crop = sides[0][CROP]
    for top, left, height, width in ((3, 5, 40, 50), (10, 20, 17, 13), (0, 0, 48, 64)):
        monkeypatch.setattr(crop, 'rand_crop_params', lambda _, c=(top, left, height, width): c)
        monkeypatch.setattr(crop, 'scale', (32, 32))
        ours = crop(dict(img=image))['img']
        theirs = F.resized_crop(
            to_pil(image), top, left, height, width, [32, 32], InterpolationMode.BILINEAR
        )
        assert np.array_equal(ours, to_bgr(theirs))


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_colour_jitter_computes_what_torchvision_does_in_any_order(
    sides, image, order, monkeypatch
):
    jitter = sides[0][JITTER].transforms.transforms[0]
    monkeypatch.setattr(jitter, '_rand_params', lambda: (order, 1.3, 0.7, 1.15, -0.06))
    pil = to_pil(image)
    steps = [
        lambda x: F.adjust_brightness(x, 1.3),
        lambda x: F.adjust_contrast(x, 0.7),
        lambda x: F.adjust_saturation(x, 1.15),
        lambda x: F.adjust_hue(x, -0.06),
    ]
    for index in order:
        pil = steps[index](pil)
    assert np.array_equal(jitter(dict(img=image))['img'], to_bgr(pil))


def test_colour_jitter_draws_its_order_and_factors(sides):
    np.random.seed(0)
    jitter = sides[1][JITTER].transforms.transforms[0]
    orders, factors = zip(
        *((tuple(o), f) for o, *f in (jitter._rand_params() for _ in range(2000)))
    )
    assert len(set(orders)) == 24
    low, high = np.min(factors, axis=0), np.max(factors, axis=0)
    np.testing.assert_allclose(low, [0.6, 0.6, 0.8, -0.1], atol=0.002)
    np.testing.assert_allclose(high, [1.4, 1.4, 1.2, 0.1], atol=0.002)
    np.testing.assert_allclose(np.mean(factors, axis=0), [1, 1, 1, 0], atol=0.02)


def test_grayscale_is_pillows_luma_up_to_rounding(sides, image, monkeypatch):
    gray = sides[0][GRAY]
    monkeypatch.setattr(gray, '_random_prob', lambda: 0.0)
    ours = gray(dict(img=image))['img'].astype(int)
    theirs = to_bgr(F.rgb_to_grayscale(to_pil(image), 3)).astype(int)
    assert np.abs(ours - theirs).max() <= 1


def test_blur_is_pillows_with_a_uniform_radius(sides, image, monkeypatch):
    np.random.seed(0)
    blur = sides[0][BLUR]
    radii = [blur.random_magnitude() for _ in range(4000)]
    assert 0.1 <= min(radii) < 0.105
    assert 1.99 < max(radii) <= 2.0
    quantiles = np.linspace(0, 1, 11)
    np.testing.assert_allclose(np.quantile(radii, quantiles), 0.1 + 1.9 * quantiles, atol=0.05)
    monkeypatch.setattr(blur, 'random_magnitude', lambda: 1.3)
    theirs = to_pil(image).filter(ImageFilter.GaussianBlur(radius=1.3))
    assert np.array_equal(blur(dict(img=image))['img'], to_bgr(theirs))


def test_solarisation_is_pillows(sides, image, monkeypatch):
    solarize = sides[1][SOLARIZE]
    monkeypatch.setattr(solarize, 'random_disable', lambda: False)
    theirs = ImageOps.solarize(to_pil(image), threshold=128)
    assert np.array_equal(solarize(dict(img=image))['img'], to_bgr(theirs))


def test_the_eight_views_of_an_image_are_independent_crops(image_folder):
    from mcl_mm.registry import DATASETS

    cfg = Config.fromfile(ROOT / 'configs/quickstart/pretrain_published.py')
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    np.random.seed(0)
    views = dataset[0]['inputs']
    assert [tuple(view.shape) for view in views] == [(3, 64, 64)] * 8
    distances = [
        (a.float() - b.float()).abs().mean() for i, a in enumerate(views) for b in views[:i]
    ]
    assert min(distances) > 1
