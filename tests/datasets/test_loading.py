"""Image files of every kind come in as a viewer shows them."""

import numpy as np
import pytest
from PIL import Image

from mcl_mm.datasets import LoadAnyImage


@pytest.fixture()
def photo():
    """A smooth RGB picture, 40 x 24, that survives JPEG well."""
    y, x = np.mgrid[:24, :40]
    pixels = np.stack([6 * x, 10 * y, 255 - 6 * x], axis=-1)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def load(path):
    results = LoadAnyImage()(dict(img_path=str(path)))
    assert results['img'].dtype == np.uint8
    assert results['img_shape'] == results['img'].shape[:2]
    return results['img'][..., ::-1].astype(int)  # RGB, as Pillow has it


@pytest.mark.parametrize(
    ('name', 'tolerance'),
    [('a.jpg', 20), ('a.JPEG', 20), ('a.png', 0), ('a.webp', 20), ('a.bmp', 0), ('a.tiff', 0)],
)
def test_formats(photo, tmp_path, name, tolerance):
    photo.save(tmp_path / name)
    assert np.abs(load(tmp_path / name) - np.asarray(photo)).max() <= tolerance


def test_grayscale(photo, tmp_path):
    gray = photo.convert('L')
    gray.save(tmp_path / 'a.png')
    assert np.array_equal(load(tmp_path / 'a.png'), np.stack([np.asarray(gray)] * 3, -1))


def test_palette(photo, tmp_path):
    palette = photo.quantize(16)
    palette.save(tmp_path / 'a.png')
    assert np.array_equal(load(tmp_path / 'a.png'), np.asarray(palette.convert('RGB')))


def test_rgba_is_shown_on_white(photo, tmp_path):
    alpha = np.zeros((24, 40), np.uint8)
    alpha[:, 20:], alpha[0, 0] = 255, 128
    photo.putalpha(Image.fromarray(alpha))
    photo.save(tmp_path / 'a.png')
    pixels, original = load(tmp_path / 'a.png'), np.asarray(photo)[..., :3].astype(int)
    assert (pixels[1:, :20] == 255).all()
    assert np.array_equal(pixels[:, 20:], original[:, 20:])
    half = (128 * original[0, 0] + 127 * 255) / 255
    assert np.abs(pixels[0, 0] - half).max() <= 1


def test_palette_with_transparency(photo, tmp_path):
    palette = photo.quantize(16)
    palette.info['transparency'] = int(np.asarray(palette)[0, 0])
    palette.save(tmp_path / 'a.png', transparency=palette.info['transparency'])
    assert load(tmp_path / 'a.png')[0, 0].tolist() == [255, 255, 255]


def test_cmyk(photo, tmp_path):
    photo.convert('CMYK').save(tmp_path / 'a.jpg', quality=98)
    assert np.abs(load(tmp_path / 'a.jpg') - np.asarray(photo)).max() <= 12


@pytest.mark.parametrize('orientation', range(1, 9))
def test_exif_rotation(photo, tmp_path, orientation):
    """However the camera was held, the picture comes in upright."""
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = photo if undo is None else photo.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / 'a.png', exif=exif)
    assert np.array_equal(load(tmp_path / 'a.png'), np.asarray(photo))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 24 * 40).reshape(24, 40).astype(np.uint16)
    for name in ('a.png', 'a.tiff'):
        Image.fromarray(values).save(tmp_path / name)
        pixels = load(tmp_path / name)
        assert np.abs(pixels[..., 0] - values / 257).max() <= 1
