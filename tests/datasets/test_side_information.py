"""Side information never condemns a picture; Orientation is found among whatever is broken."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from bad_files import encoded, picture
from mcl_mm.datasets import BadImageError, read_image
from mcl_mm.datasets.decoding import UPRIGHT, turn
from mcl_mm.datasets.side_information import orientation_of, pixels_only

ORIENT_6 = (0x0112, 3, 1, struct.pack('<HH', 6, 0))
TEXT = b'abc\0'


def exif(*entries, extra=b''):
    """An EXIF block of entries (tag, type, count, four bytes)."""
    body = b''.join(struct.pack('<HHL', *entry[:3]) + entry[3] for entry in entries)
    head = b'II*\0' + struct.pack('<LH', 8, len(entries))
    return b'Exif\0\0' + head + body + bytes(4) + extra


def jpeg_with(marker, body):
    data = encoded('JPEG')
    return data[:2] + bytes([0xFF, marker]) + struct.pack('>H', len(body) + 2) + body + data[2:]


def chunk(kind, body, crc=None):
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack('>L', len(body)) + kind + body + struct.pack('>L', crc)


def used(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return np.asarray(read_image(str(tmp_path / name)))


def plain(form):
    return Image.open(io.BytesIO(encoded(form))).convert('RGB')


@pytest.mark.parametrize('kind', [*range(14), 99, 65535])
@pytest.mark.parametrize('tag', [0x010F, 0x011A, 0x0128, 0x02BC, 0x8769, 0x8825, 0xA005])
def test_any_tag_of_any_type_leaves_picture_and_orientation(tmp_path, tag, kind):
    upright = np.asarray(ImageOps.mirror(plain('JPEG').transpose(Image.Transpose.TRANSPOSE)))
    for count, value in [
        (0, TEXT),
        (1, bytes(4)),
        (4, TEXT),
        (1, b'\x26\0\0\0'),
        (2**31, b'\xff' * 4),
    ]:
        entries = sorted([ORIENT_6, (tag, kind, count, value)])
        block = exif(*entries, extra=struct.pack('<ll', -1, 0))
        assert np.array_equal(used(tmp_path, 'a.jpg', jpeg_with(0xE1, block)), upright), count


def test_orientation_is_that_of_pillow_wherever_pillow_reads_it():
    rng = np.random.default_rng(0)
    same = 0
    for _ in range(2000):
        value = struct.pack('<HH', rng.integers(1, 9), 0)
        tags = rng.choice([0x010E, 0x010F, 0x0110, 0x011A, 0x0131, 0x0213], 3, replace=False)
        entries = [
            (int(t), int(rng.integers(1, 13)), int(rng.integers(3)), rng.bytes(4)) for t in tags
        ]
        block = exif(*sorted([*entries, (0x0112, 3, 1, value)]))
        by_pillow = Image.Exif()
        try:
            by_pillow.load(block)
            expected = by_pillow.get(0x0112)
        except Exception:
            expected = None
        if expected is not None:
            same += 1
            assert orientation_of(dict(exif=block)) == expected
    assert same > 500


def test_orientation_in_big_endian_xmp_and_text():
    big = b'MM\0*' + struct.pack('>LHHHLHH', 8, 1, 0x0112, 3, 1, 8, 0) + bytes(4)
    assert orientation_of(dict(exif=big)) == 8
    assert orientation_of(dict(xmp=b'<rdf tiff:Orientation="3">')) == 3
    assert orientation_of({'XML:com.adobe.xmp': '<tiff:Orientation>5</tiff:Orientation>'}) == 5
    raw = f'\nexif\n{len(big):8}\n{big.hex()}\n'
    assert orientation_of({'Raw profile type exif': raw}) == 8
    for nothing in (
        {},
        dict(exif=b'x'),
        dict(exif='text'),
        dict(exif=exif((0x0112, 3, 1, bytes(4)))),
    ):
        assert orientation_of(nothing) == 1


@pytest.mark.parametrize('orientation', UPRIGHT)
def test_arrays_turn_as_images_do(orientation):
    image = picture(20, 17)
    assert np.array_equal(
        turn(np.asarray(image), orientation), np.asarray(turn(image, orientation))
    )


@pytest.mark.parametrize('marker', [*range(0xE0, 0xF0), 0xFE, 0xF0, 0xF7, 0xC8, 0x02, 0xBF])
def test_odd_markers_of_a_jpeg(tmp_path, marker):
    names = (b'', b'J', b'JFIF\0', b'Exif\0\0', b'MPF\0II*\0', b'ICC_PROFILE\0', b'Adobe', b'FPXR\0',
             b'Photoshop 3.0\0' + b'8BIM\x03\xed\0\0\0\0\0\1x',
             b'http://ns.adobe.com/xap/1.0/\0\xff')  # fmt: skip
    expected = np.asarray(plain('JPEG'))
    for name in names:
        for tail in (b'', b'\0', b'\xfe' * 9):
            assert np.array_equal(used(tmp_path, 'a.jpg', jpeg_with(marker, name + tail)), expected)


ANCILLARY = (b'bKGD cHRM cICP gAMA hIST iCCP iTXt mDCV pHYs sBIT sPLT sRGB sTER tEXt tIME tRNS zTXt eXIf '
             b'acTL fcTL fdAT vpAg orNT caBX').split()  # fmt: skip


@pytest.mark.parametrize('kind', ANCILLARY)
def test_broken_chunks_of_a_png(tmp_path, kind):
    data = encoded('PNG')
    bodies = [b'', b'\0', b'garbage', b'name\0\0' + zlib.compress(b'x' * 2_000_000), b'\xff' * 40]
    if kind == b'tRNS':
        bodies = [b'', b'\0', b'garbage']  # of other lengths it is transparency
    for body in bodies:
        for crc in (None, 1):
            broken = chunk(kind, body, crc)
            for at in (33, data.index(b'IEND') - 4):
                with_it = used(tmp_path, 'a.png', data[:at] + broken + data[at:])
                assert np.array_equal(with_it, np.asarray(picture())), (body[:9], crc, at)
    assert np.array_equal(used(tmp_path, 'a.png', data + b'trailer'), np.asarray(picture()))


@pytest.mark.parametrize('length', [0, 300, 700])
def test_transparency_that_does_not_fit_a_palette_is_none(tmp_path, length):
    file = io.BytesIO()
    palette = picture().quantize(10)
    palette.save(file, 'PNG')
    data = file.getvalue()
    at = data.index(b'IDAT') - 4
    pixels = used(tmp_path, 'a.png', data[:at] + chunk(b'tRNS', b'\1' * length) + data[at:])
    assert np.array_equal(pixels, np.asarray(palette.convert('RGB')))


def test_orientation_of_a_png_beside_a_broken_chunk(tmp_path):
    data = encoded('PNG')
    broken = chunk(b'zTXt', b'a\0\0' + zlib.compress(b'x' * 2_000_000))
    for kind, body in ((b'eXIf', exif(ORIENT_6)[6:]),
                       (b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'),
                       (b'zTXt', b'Raw profile type exif\0\0'
                        + zlib.compress(f'\nexif\n 1\n{exif(ORIENT_6).hex()}\n'.encode()))):  # fmt: skip
        pixels = used(tmp_path, 'a.png', data[:33] + broken + chunk(kind, body) + data[33:])
        assert np.array_equal(pixels, np.rot90(np.asarray(picture()), -1)), kind


def test_broken_side_information_of_webp(tmp_path):
    file = io.BytesIO()
    picture().save(file, 'WEBP', lossless=True, exif=exif(ORIENT_6), icc_profile=b'x' * 50)
    data = file.getvalue()
    expected = np.rot90(np.asarray(picture()), -1)
    assert np.array_equal(used(tmp_path, 'a.webp', data), expected)
    at = data.index(b'ICCP')
    assert np.array_equal(used(tmp_path, 'b.webp', data[:at] + b'abcd' + data[at + 4 :]), expected)
    at = data.index(b'EXIF')
    cut = used(tmp_path, 'c.webp', data[: at + 12])  # the file ends amid EXIF
    assert np.array_equal(cut, np.asarray(picture()))


@pytest.mark.parametrize('tag', [282, 296, 305, 700, 34665, 34675, 33432])
def test_broken_tags_of_a_tiff(tmp_path, tag):
    file = io.BytesIO()
    info = {274: 6, 282: 72.0, 296: 2, 305: 'name', 700: b'x', 34665: 8, 34675: b'abc', 33432: 'me'}
    picture().save(file, 'TIFF', tiffinfo=info)
    data = bytearray(file.getvalue())
    (start,) = struct.unpack_from('<L', data, 4)
    (count,) = struct.unpack_from('<H', data, start)
    at = next(start + 2 + 12 * i for i in range(count)
              if struct.unpack_from('<H', data, start + 2 + 12 * i)[0] == tag)  # fmt: skip
    for kind, number, value in [
        (2, 4, TEXT),
        (5, 1, b'\xff' * 4),
        (99, 1, bytes(4)),
        (10, 2**31, TEXT),
    ]:
        struct.pack_into('<HL', data, at + 2, kind, number)
        data[at + 8 : at + 12] = value
        expected = np.rot90(np.asarray(picture()), -1)
        assert np.array_equal(used(tmp_path, 'a.tif', bytes(data)), expected), kind


@pytest.mark.parametrize('name', ['a.jpg', 'a.png', 'a.webp', 'a.tif'])
def test_damaged_pixels_are_found_behind_broken_side_information(tmp_path, name):
    data = dict(
        jpg=jpeg_with(0xE1, exif((0x011A, 2, 4, TEXT))),
        png=encoded('PNG')[:33] + chunk(b'eXIf', b'garbage', 1) + encoded('PNG')[33:],
        webp=encoded('WEBP', exif=b'garbage'),
        tif=encoded('TIFF', compression='tiff_lzw'),
    )[name.split('.')[1]]
    (tmp_path / name).write_bytes(data)
    read_image(str(tmp_path / name))
    cut = data.index(b'IEND') - 40 if name == 'a.png' else len(data) // 2
    (tmp_path / name).write_bytes(data[:cut])
    with pytest.raises(BadImageError, match=r'damaged|not an image'):
        read_image(str(tmp_path / name))


def test_a_flipped_bit_in_pixels_is_still_found(tmp_path):
    data = bytearray(encoded('PNG')[:33] + chunk(b'gAMA', b'', 1) + encoded('PNG')[33:])
    data[data.index(b'IDAT') + 60] ^= 1
    (tmp_path / 'a.png').write_bytes(data)
    with pytest.raises(BadImageError, match='damaged'):
        read_image(str(tmp_path / 'a.png'))


def test_other_formats_are_left_alone():
    assert pixels_only(encoded('BMP')) is None
    assert pixels_only(b'') is None
