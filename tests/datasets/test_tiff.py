"""TIFFs of all types and layouts: the values that tifffile has written, or a refusal, never others."""

import itertools
import struct
import sys
import zlib
from importlib.util import find_spec

import numpy as np
import pytest
import tifffile
from PIL import Image

from mcl_mm.datasets import BadImageError, read_image
from mcl_mm.datasets.channels import read_channels
from mcl_mm.datasets.decoding import load_pixels
from mcl_mm.datasets.depth import measure, to_bytes

TYPES = ('u1', 'i1', 'u2', 'i2', 'u4', 'i4', 'u8', 'i8', 'f2', 'f4', 'f8')


def draw(kind, shape):
    """Values over all of a type, ``(40, 50, bands)``."""
    rng = np.random.default_rng(0)
    if kind[0] == 'f':
        return rng.normal(size=shape).astype(kind)
    info = np.iinfo(kind)
    return rng.integers(info.min, info.max, shape, kind, endpoint=True)


def write(path, values, colours, **settings):
    if settings.get('planarconfig') == 'separate':
        values = np.moveaxis(values, -1, 0)
    tifffile.imwrite(path, np.ascontiguousarray(values), photometric=colours, **settings)


@pytest.mark.parametrize('kind', TYPES)
def test_any_type_order_and_layout_gives_the_values_of_the_file(tmp_path, kind):
    path = str(tmp_path / 'a.tif')
    for bands, order, codec, big, tile in itertools.product(
        (1, 3, 4), '<>', (None, 'deflate'), (False, True), (None, (16, 16))
    ):
        values = draw(kind, (40, 50, bands))
        extra = dict(extrasamples=['unassalpha']) if bands == 4 else {}
        for planes in ('contig', 'separate') if bands > 1 else (None,):
            write(path, values if bands > 1 else values[..., 0], 'rgb' if bands > 1 else 'minisblack',
                  byteorder=order, compression=codec, bigtiff=big, tile=tile, planarconfig=planes,
                  **extra)  # fmt: skip
            read = np.asarray(load_pixels(path)).reshape(values.shape)
            assert np.array_equal(read, values), (bands, order, codec, big, tile, planes)


@pytest.mark.parametrize('kind', ['u1', 'u2', 'u4'])
@pytest.mark.parametrize('codec', [None, 'deflate'])
def test_white_may_be_zero(tmp_path, kind, codec):
    values = draw(kind, (40, 50))
    write(tmp_path / 'a.tif', values, 'miniswhite', compression=codec)
    read = np.asarray(load_pixels(str(tmp_path / 'a.tif')))
    assert np.array_equal(read, np.iinfo(kind).max - values)


@pytest.mark.parametrize('planes', ['contig', 'separate'])
@pytest.mark.parametrize('kind', ['u1', 'u2'])
def test_gray_with_transparency_is_shown_on_white(tmp_path, kind, planes):
    top = np.iinfo(kind).max
    gray = draw(kind, (40, 50))
    alpha = np.where(np.arange(50) < 25, 0, top).astype(kind) + 0 * gray
    write(tmp_path / 'a.tif', np.stack([gray, alpha], -1), 'minisblack', planarconfig=planes,
          extrasamples=['unassalpha'])  # fmt: skip
    read = np.asarray(read_image(str(tmp_path / 'a.tif'), value_range=(0, top)))
    assert (read[:, :25] == 255).all()
    shown = (gray[:, 25:].astype(float) * 255 / top).astype(int)
    assert np.abs(read[:, 25:].astype(int) - shown[..., None]).max() <= 1


def upright(values, orientation):
    """Rows and columns as EXIF's definition of Orientation has them."""
    upside_down, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    values = values.T if orientation > 4 else values
    return values[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


@pytest.mark.parametrize('orientation', range(1, 9))
def test_gray_is_upright_in_any_layout(tmp_path, orientation):
    for kind in ('i1', 'u1', 'u2', 'f4'):  # the first by tifffile, the others by Pillow
        for codec, rows in itertools.product((None, 'deflate'), (None, 8)):
            values = draw(kind, (40, 50))
            extra = [(274, 'H', 1, orientation, True)]
            write(tmp_path / 'a.tif', values, 'minisblack', extratags=extra, compression=codec,
                  rowsperstrip=rows)  # fmt: skip
            read = np.asarray(load_pixels(str(tmp_path / 'a.tif')))
            assert np.array_equal(read, upright(values, orientation)), (kind, codec, rows)


def test_colours_that_are_no_rgb_are_refused(tmp_path):
    write(tmp_path / 'a.tif', draw('u2', (40, 50, 4)), 'separated', planarconfig='separate')
    with pytest.raises(BadImageError, match='4 bands, SEPARATED: write it as gray or RGB'):
        read_image(str(tmp_path / 'a.tif'))


@pytest.mark.parametrize('big', [False, True])
def test_sizes_are_judged_before_decoding(tmp_path, big):
    write(tmp_path / 'a.tif', draw('i8', (15, 50)), 'minisblack', bigtiff=big, byteorder='>')
    with pytest.raises(BadImageError, match='too small: 50 x 15 pixels'):
        read_image(str(tmp_path / 'a.tif'), value_range=(0, 1))


@pytest.mark.parametrize('codec', [None, 'deflate'])
def test_a_file_that_ends_early_is_damaged(tmp_path, codec):
    path = tmp_path / 'a.tif'
    write(path, draw('u4', (40, 50)), 'minisblack', compression=codec, byteorder='>')
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(BadImageError, match='damaged: '):
        read_image(str(path), value_range=(0, 1))


def test_a_reader_that_is_not_installed_is_named(tmp_path, monkeypatch):
    write(tmp_path / 'a.tif', draw('u4', (40, 50)), 'minisblack')
    monkeypatch.setitem(sys.modules, 'tifffile', None)
    with pytest.raises(BadImageError, match='no reader: .*pip install tifffile imagecodecs'):
        read_image(str(tmp_path / 'a.tif'), value_range=(0, 1))


@pytest.mark.skipif(bool(find_spec('imagecodecs')), reason='imagecodecs is installed')
def test_a_codec_that_is_not_installed_is_named(tmp_path):
    image = Image.fromarray(draw('u1', (40, 50, 3)))
    image.save(tmp_path / 'a.tif', compression='tiff_lzw')
    with pytest.raises(
        BadImageError, match='no reader: COMPRESSION.LZW needs .*pip install imagecodecs'
    ):
        read_channels(str(tmp_path / 'a.tif'), 3)


def test_transparent_gray_of_few_bits(tmp_path):
    """Pillow scales the pixels of such a PNG and not the value that is transparent."""

    def chunk(kind, body):
        return (
            struct.pack('>L', len(body)) + kind + body + struct.pack('>L', zlib.crc32(kind + body))
        )

    values = np.arange(40 * 48).reshape(40, 48) % 4
    rows = (values.reshape(40, 12, 4) << np.array([6, 4, 2, 0])).sum(-1).astype(np.uint8)
    pixels = b''.join(b'\0' + row.tobytes() for row in rows)
    head = struct.pack('>LLBBBBB', 48, 40, 2, 0, 0, 0, 0)
    (tmp_path / 'a.png').write_bytes(
        b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'tRNS', struct.pack('>H', 1))
        + chunk(b'IDAT', zlib.compress(pixels)) + chunk(b'IEND', b'')
    )  # fmt: skip
    read = np.asarray(read_image(str(tmp_path / 'a.png')))
    assert np.array_equal(read[..., 0], np.array([0, 255, 170, 255])[values])


def test_a_small_range_far_from_zero_keeps_its_levels():
    values = (4_000_000_000 + np.arange(256).reshape(16, 16)).astype(np.uint32)
    read = to_bytes(values, (4_000_000_000, 4_000_000_255))
    assert np.array_equal(read, np.arange(256).reshape(16, 16))


def test_half_precision_is_measured_in_double():
    values = np.linspace(1000, 1010, 10_001).astype(np.float16)
    assert measure([values]) == tuple(np.percentile(values.astype(float), (0.1, 99.9)))
