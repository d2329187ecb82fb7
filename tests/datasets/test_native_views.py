"""Views at their tiles' size: the crops of the faithful recipe, resized as Pillow resizes them."""

import io

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from conftest import ROOT
from mcl_mm.datasets import LoadAnyImage, NativeViews
from mcl_mm.models import MontageTransform
from mcl_mm.models.montage import cut
from mcl_mm.registry import DATASETS


@pytest.fixture(scope='module')
def image():
    """A smooth picture with some noise, uint8, 150 x 200."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:150, :200]
    smooth = np.stack([1.2 * x, 1.7 * y, 255 - x - 0.3 * y], axis=-1)
    return (smooth + rng.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8)


def test_sides_of_levels_and_sides(image):
    views = NativeViews(side=224)(dict(img=image))['img']
    assert [view.shape for view in views] == [(s, s, 3) for s in (224, 112, 56, 28)] * 2
    assert all(view.dtype == np.uint8 for view in views)


def test_pixels_are_pillows_resized_crop(image, monkeypatch):
    """Antialiased at every size, also where the crop is smaller than the view."""
    transform = NativeViews(side=64, flip_prob=0)
    crops = [(3, 5, 140, 180), (10, 20, 97, 113), (0, 0, 150, 200), (30, 40, 20, 24)]
    draws = iter(crops * 2)
    monkeypatch.setattr(transform.crop, 'rand_crop_params', lambda _: next(draws))
    views = transform(dict(img=image))['img']
    for (top, left, height, width), view in zip(crops * 2, views):
        crop = Image.fromarray(image[top : top + height, left : left + width])
        expected = np.asarray(crop.resize(view.shape[:2], Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(view - expected).max() <= 1


@pytest.mark.parametrize(('probability', 'mirrored'), [(0, False), (1, True)])
def test_flip(image, probability, mirrored, monkeypatch):
    transform = NativeViews(side=64, flip_prob=probability)
    monkeypatch.setattr(transform.crop, 'rand_crop_params', lambda _: (0, 0, 150, 200))
    view = transform(dict(img=image))['img'][1].astype(int)
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(view - (expected[:, ::-1] if mirrored else expected)).max() <= 1


def test_half_of_the_views_are_flipped_and_each_draws_its_own(image):
    np.random.seed(0)
    # Bright on the left: a flipped view is bright on the right.
    ramp = np.repeat(np.linspace(255, 0, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    transform = NativeViews(side=16)
    flipped = [
        v[0, 0, 0] < v[0, -1, 0] for _ in range(250) for v in transform(dict(img=ramp))['img']
    ]
    assert np.mean(flipped) == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)
    assert 0 < sum(flipped[:8]) < 8


def test_crops_are_drawn_as_in_the_faithful_recipe(monkeypatch):
    """Same area and aspect ratio, quantile by quantile, as the transform of mcl_r50_100e."""
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
    fast = Config.fromfile(ROOT / 'configs/mcl_r50_100e_fast.py')
    from mcl_mm.registry import TRANSFORMS

    with DefaultScope.overwrite_default_scope('mcl_mm'):
        faithful = TRANSFORMS.build(cfg.train_dataloader.dataset.pipeline[1].transforms[0][0])
        native = TRANSFORMS.build(fast.train_dataloader.dataset.pipeline[1])
    image = np.zeros((375, 500, 3), np.uint8)
    drawn = []

    def spy(img, draw=native.crop.rand_crop_params):
        drawn.append(draw(img))
        return drawn[-1]

    monkeypatch.setattr(native.crop, 'rand_crop_params', spy)
    np.random.seed(0)
    for _ in range(350):
        native(dict(img=image))
    ours = np.array(drawn)
    theirs = np.array([faithful.rand_crop_params(image) for _ in range(len(ours))])
    quantiles = np.linspace(0.05, 0.95, 10)
    for statistic in (
        lambda p: p[:, 2] * p[:, 3] / image[..., 0].size,
        lambda p: np.log(p[:, 3] / p[:, 2]),
        lambda p: (p[:, 0] + p[:, 2] / 2) / 375,
        lambda p: (p[:, 1] + p[:, 3] / 2) / 500,
    ):
        a, b = (np.quantile(statistic(p), quantiles) for p in (ours, theirs))
        np.testing.assert_allclose(a, b, atol=0.04)


def test_montage_pastes_native_views_as_they_are():
    generator = torch.Generator().manual_seed(0)
    views = [
        torch.randint(0, 256, (16, 3, s, s), generator=generator).byte()
        for s in (64, 32, 16, 8) * 2
    ]
    for side, side_views in zip(MontageTransform()(views[:4], views[4:]), (views[:4], views[4:])):
        for level, ratio in enumerate((1, 2, 4, 8)):
            assert side.sheets[level].shape[1:] == (3, 64, 64)
            tiles = cut(side.sheets[level], 64 // ratio)
            assert torch.equal(tiles, side_views[level][side.sources[level]])


def test_fast_recipe_gives_what_the_preprocessor_takes(image_folder):
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e_fast.py')
    cfg.train_dataloader.dataset.data_root = str(image_folder)
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        views = DATASETS.build(cfg.train_dataloader.dataset)[0]['inputs']
    assert [tuple(view.shape) for view in views] == [(3, s, s) for s in (224, 112, 56, 28)] * 2
    assert all(view.dtype == torch.uint8 for view in views)


@pytest.mark.parametrize('dtype', [np.uint16, np.int16, np.float64])
def test_pixels_of_another_type_are_refused(image, dtype):
    with pytest.raises(ValueError, match=f'got {np.dtype(dtype)}: load images by LoadAnyImage'):
        NativeViews(side=64)(dict(img=image.astype(dtype)))


def test_ratio_that_does_not_divide():
    with pytest.raises(ValueError, match='ratio 8 does not divide the side of a sheet, 100'):
        NativeViews(side=100)


class TestReducedDecoding:
    """JPEGs larger than needed are decoded at a fraction of their size."""

    @staticmethod
    def save(path, size, **kwargs):
        y, x = np.mgrid[: size[1], : size[0]]
        pixels = np.stack([255 * x / size[0], 255 * y / size[1], 255 - 255 * x / size[0]], -1)
        Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95, **kwargs)
        return str(path)

    @pytest.mark.parametrize(
        ('size', 'expected'),
        [
            ((1160, 1200), (600, 580)),
            ((1159, 1200), (1200, 1159)),  # half would be too small
            ((3001, 2321), (581, 751)),  # a quarter, rounded up
            ((5000, 600), (600, 5000)),
            ((300, 200), (200, 300)),
        ],
    )
    def test_size(self, tmp_path, size, expected):
        path = self.save(tmp_path / 'a.jpg', size)
        assert LoadAnyImage(min_side=580)(dict(img_path=path))['img_shape'] == expected

    def test_pixels_are_those_of_the_whole_image_made_smaller(self, tmp_path):
        path = self.save(tmp_path / 'a.jpg', (800, 640))
        reduced = LoadAnyImage(min_side=160)(dict(img_path=path))['img'].astype(int)
        whole = LoadAnyImage()(dict(img_path=path))['img']
        expected = whole.reshape(160, 4, 200, 4, 3).mean(axis=(1, 3))
        assert np.abs(reduced - expected).max() <= 2

    def test_exif_rotation(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        path = self.save(tmp_path / 'a.jpg', (800, 640), exif=exif)
        reduced = LoadAnyImage(min_side=160)(dict(img_path=path))['img'].astype(int)
        whole = LoadAnyImage()(dict(img_path=path))['img']
        assert reduced.shape == (200, 160, 3)
        assert np.abs(reduced - whole.reshape(200, 4, 160, 4, 3).mean(axis=(1, 3))).max() <= 2

    @pytest.mark.parametrize('mode', ['L', 'CMYK'])
    def test_gray_and_cmyk(self, tmp_path, mode):
        rgb = Image.open(self.save(tmp_path / 'rgb.jpg', (800, 640)))
        rgb.convert(mode).save(tmp_path / 'a.jpg', quality=95)
        path = str(tmp_path / 'a.jpg')
        reduced = LoadAnyImage(min_side=160)(dict(img_path=path))['img'].astype(int)
        whole = LoadAnyImage()(dict(img_path=path))['img']
        assert np.abs(reduced - whole.reshape(160, 4, 200, 4, 3).mean(axis=(1, 3))).max() <= 2

    def test_other_formats_stay_whole(self, tmp_path):
        buffer = io.BytesIO()
        Image.new('RGB', (800, 640), (1, 2, 3)).save(buffer, 'png')
        (tmp_path / 'a.png').write_bytes(buffer.getvalue())
        loaded = LoadAnyImage(min_side=160)(dict(img_path=str(tmp_path / 'a.png')))
        assert loaded['img'].shape == (640, 800, 3)
        assert loaded['img'][0, 0].tolist() == [3, 2, 1]

    def test_smallest_crop_of_the_fast_recipe_still_covers_a_full_view(self):
        cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e_fast.py')
        load, views = cfg.train_dataloader.dataset.pipeline[:2]
        smallest = load.min_side * (views.crop_ratio_range[0] * 3 / 4) ** 0.5
        assert smallest >= views.side
