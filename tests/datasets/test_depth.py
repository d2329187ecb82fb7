"""Images of more than 8 bits: all of their levels, in one range for a set."""

import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from mcl_mm.datasets import BadImageError, LoadAnyImage, read_image
from mcl_mm.datasets.depth import (
    RANGE_FILE,
    has_alpha,
    measure,
    read_value_range,
    to_bytes,
    write_value_range,
)


@pytest.fixture
def bands():
    """12 bits in 16, ``(40, 50, 4)``."""
    return np.random.default_rng(0).integers(0, 4096, (40, 50, 4)).astype(np.uint16)


def write_tiff(path, values, extra, photometric=2, tags=()):
    """An uncompressed TIFF of several bands; ``extra`` are its ExtraSamples."""
    h, w, samples = values.shape
    bits, kind = values.dtype.itemsize * 8, 3 if values.dtype.kind == 'f' else 1
    pixels = values.tobytes()
    ifd = 8 + len(pixels) + len(pixels) % 2
    entries = [(256, 4, 1, w), (257, 4, 1, h), (259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, 8),
               (277, 3, 1, samples), (278, 4, 1, h), (279, 4, 1, len(pixels))]  # fmt: skip
    far = [(258, 3, [bits] * samples), (339, 3, [kind] * samples), *tags]
    far += [(338, 3, list(extra))] if extra else []
    tail, at = b'', ifd + 2 + 12 * (len(entries) + len(far)) + 4
    for tag, letter, content in far:
        data = content if isinstance(content, bytes) else struct.pack(f'<{len(content)}H', *content)
        count = len(content)
        if len(data) <= 4:
            entries.append((tag, letter, count, *struct.unpack('<L', data.ljust(4, b'\0'))))
        else:
            entries.append((tag, letter, count, at + len(tail)))
            tail += data + bytes(len(data) % 2)
    body = b''.join(struct.pack('<HHLL', *entry) for entry in sorted(entries))
    path.write_bytes(b'II*\0' + struct.pack('<L', ifd) + pixels + bytes(len(pixels) % 2)
                     + struct.pack('<H', len(entries)) + body + bytes(4) + tail)  # fmt: skip


def load(path, **kwargs):
    return LoadAnyImage(**kwargs)(dict(img_path=str(path)))['img'][..., ::-1]  # RGB


def scaled(values, low, high):
    """Slow and exact: what lies between, in 255 steps, rounded down."""
    share = (values.astype(np.float64) - low) / (high - low)
    return np.floor(np.clip(share, 0, 1) * 255)


@pytest.mark.parametrize('dtype', ['uint16', 'int16', 'int32', 'float32', 'float64'])
@pytest.mark.parametrize(('low', 'high'), [(0, 1000), (-500, 500), (100, 101)])
def test_values_are_scaled_as_by_hand(dtype, low, high):
    values = np.random.default_rng(0).uniform(0 if dtype[0] == 'u' else -2000, 2000, (30, 40))
    values = values.astype(dtype)
    difference = to_bytes(values, (low, high)) - scaled(values, low, high)
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.02  # where float32 falls on the other side of a step


def test_two_frames_of_one_camera_look_alike(tmp_path):
    """A hot pixel of 254 or 256 once made the one 255 times as bright as the other."""
    y, x = np.mgrid[:60, :80]
    scene = (20 + 80 * np.exp(-((x - 40) ** 2 + (y - 30) ** 2) / 900)).astype(np.float32)
    frames = []
    for peak in (254, 256):
        scene[30, 40] = peak
        Image.fromarray(scene).save(tmp_path / 'a.tif')
        frames.append(load(tmp_path / 'a.tif', value_range=[20, 100]).astype(int))
    assert np.array_equal(*frames)
    assert len(np.unique(frames[0])) > 150


def test_signed_values_keep_their_levels(tmp_path):
    values = np.linspace(-1000, 1000, 2000).reshape(40, 50).astype(np.int16)
    cv2.imwrite(str(tmp_path / 'a.tif'), values)
    pixels = load(tmp_path / 'a.tif', value_range=(-1000, 1000))
    assert len(np.unique(pixels)) == 256
    assert np.abs(pixels[..., 0] - (values + 1000.0) * 255 / 2000).max() <= 1


@pytest.mark.parametrize('name', ['a.png', 'a.tif'])
@pytest.mark.parametrize('channels', [3, 4])
def test_all_levels_of_colours_of_16_bits(tmp_path, bands, name, channels):
    bands[..., 3] = 65535
    cv2.imwrite(str(tmp_path / name), bands[..., [2, 1, 0, 3][:channels]])
    pixels = load(tmp_path / name, value_range=(0, 4095))
    assert np.abs(pixels - bands[..., :3] * (255 / 4095)).max() <= 1
    plain = load(tmp_path / name)  # the format's own range: sixteen levels
    assert np.abs(plain - bands[..., :3] / 257).max() <= 1


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_colours_that_are_floats(tmp_path, bands, dtype):
    values = bands[..., :3].astype(dtype)
    write_tiff(tmp_path / 'a.tif', values, ())
    pixels = load(tmp_path / 'a.tif', value_range=(0, 4095))
    assert np.abs(pixels - values * (255 / 4095)).max() <= 1
    with pytest.raises(
        BadImageError, match=f'no value range: its values are {dtype}.*Set value_range'
    ):
        read_image(str(tmp_path / 'a.tif'))


@pytest.mark.parametrize('ending', ['jp2', 'j2k'])
def test_jpeg_2000_keeps_all_levels(tmp_path, bands, ending):
    """Pillow keeps 8 bits of colours; of one band it keeps all."""
    for values in (bands[..., :3], bands[..., 0]):
        path = tmp_path / f'a.{ending}'
        lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
        _, data = cv2.imencode('.jp2', values[..., ::-1] if values.ndim == 3 else values, lossless)
        content = data.tobytes()
        path.write_bytes(
            content if ending == 'jp2' else content[content.index(b'\xff\x4f\xff\x51') :]
        )
        expected = scaled(values if values.ndim == 3 else values[..., None], 100, 4000)
        assert np.abs(load(path, value_range=(100, 4000)) - expected).max() <= 1
    small = (bands[..., :3] >> 4).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'b.jp2'), small[..., ::-1], lossless)
    assert np.abs(load(tmp_path / 'b.jp2').astype(int) - small).max() <= 1


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
def test_a_fourth_band_is_transparency_only_where_the_file_says_so(tmp_path, bands, dtype):
    full = np.iinfo(dtype).max
    bands = (bands >> 4).astype(dtype) if dtype == 'uint8' else bands * 16
    bands[..., 3] = 0  # transparent, or no infrared light
    value_range = (0, full)
    colours = np.floor(bands[..., :3] * (255 / full)).astype(int)
    path = tmp_path / 'a.tif'
    write_tiff(path, bands, (0,))
    assert np.abs(load(path, value_range=value_range) - colours).max() <= 1
    write_tiff(path, bands, (2,))
    assert (load(path, value_range=value_range) == 255).all()
    gdal = b'<GDALMetadata><Item name="COLORINTERP" sample="3" role="colorinterp">%s</Item>\0'
    write_tiff(path, bands, (2,), tags=[(42112, 2, gdal % b'NIR')])
    assert np.abs(load(path, value_range=value_range) - colours).max() <= 1
    write_tiff(path, bands, (2,), tags=[(42112, 2, gdal % b'Alpha')])
    assert (load(path, value_range=value_range) == 255).all()
    assert has_alpha(b'\x89PNG')


@pytest.mark.parametrize('orientation', [1, 6])
def test_deep_images_are_upright_too(tmp_path, bands, orientation):
    upright = bands[..., :3]
    turned = np.rot90(upright, 1 if orientation == 6 else 0)
    write_tiff(tmp_path / 'a.tif', np.ascontiguousarray(turned), (), tags=[(274, 3, [orientation])])
    assert (
        np.abs(load(tmp_path / 'a.tif', value_range=(0, 4095)) - upright * (255 / 4095)).max() <= 1
    )


def test_a_set_has_the_range_of_all_its_images():
    samples = [np.full(999, 10.0), np.linspace(0, 1000, 1001), np.array([1e9])]
    together = np.concatenate(samples)
    assert measure(samples) == pytest.approx(tuple(np.percentile(together, [0.1, 99.9])))
    assert measure([np.full(9, 5)]) == (5, 6)


def test_a_range_is_written_and_read(tmp_path):
    path = str(tmp_path / 'good.txt') + RANGE_FILE
    write_value_range(path, (-3.5, 1e6), 12)
    assert read_value_range(path) == (-3.5, 1e6)
    assert read_value_range([0, 4095]) == (0.0, 4095.0)
    assert read_value_range(None) is None
    assert LoadAnyImage(value_range=path).value_range == (-3.5, 1e6)


@pytest.mark.parametrize('value', [4095, [1], [5, 5], [5, 1], ['0', '1'], [0, float('nan')],
                                   [False, True], [0, float('inf')], dict(low=0), [[0, 1], 2]])  # fmt: skip
def test_what_is_no_range(value):
    with pytest.raises(ValueError, match=r'value_range must be two numbers.*such as \[0, 4095\]'):
        read_value_range(value)


@pytest.mark.parametrize('content', ['', 'text', '[]', '{}', '{"value_range": 3}'])
def test_a_file_without_a_range(tmp_path, content):
    (tmp_path / 'a.json').write_text(content)
    with pytest.raises(ValueError, match='value_range'):
        read_value_range(str(tmp_path / 'a.json'))


def test_no_file_of_a_range(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_value_range(str(tmp_path / 'a.json'))
