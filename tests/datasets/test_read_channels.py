"""Images of N channels: each value as the file has it, in the range of its channel; what is refused."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from mcl_mm.datasets import BadImageError, LoadAnyImage, UnlabelledImages
from mcl_mm.datasets.channels import measure_channels, read_channels
from mcl_mm.datasets.depth import (
    RANGE_FILE,
    describe_range,
    read_value_range,
    write_value_range,
)
from mcl_mm.datasets.scan import describe_passed_over

REAL = ['uint8', 'uint16', 'int16', 'uint32', 'int32', 'float32', 'float64']
BANDS = dict(photometric='minisblack', metadata=None)
TIFFS = {
    'interleaved': lambda p, v: tifffile.imwrite(p, v, planarconfig='contig', **BANDS),
    'planes': lambda p, v: tifffile.imwrite(p, first(v), planarconfig='separate', **BANDS),
    'deflated': lambda p, v: tifffile.imwrite(
        p, v, planarconfig='contig', compression='zlib', **BANDS
    ),
    'tiles': lambda p, v: tifffile.imwrite(p, v, planarconfig='contig', tile=(16, 16), **BANDS),
    'big': lambda p, v: tifffile.imwrite(p, v, planarconfig='contig', bigtiff=True, **BANDS),
    'big-endian': lambda p, v: tifffile.imwrite(
        p, v, planarconfig='contig', byteorder='>', **BANDS
    ),
    'pages': lambda p, v: write_pages(p, first(v)),
    'as it comes': lambda p, v: tifffile.imwrite(p, v),
    'channels first, as they come': lambda p, v: tifffile.imwrite(p, first(v)),
    'of ImageJ': lambda p, v: tifffile.imwrite(p, first(v), imagej=True),
    'of OME': lambda p, v: tifffile.imwrite(
        p, first(v), ome=True, metadata=dict(axes='CYX'[3 - v.ndim :])
    ),
}
ARRAYS = {
    'channels last': lambda p, v: np.save(p, v),
    'channels first': lambda p, v: np.save(p, first(v)),
    'Fortran': lambda p, v: np.save(p, np.asfortranarray(v)),
}


def first(values):
    """Channels first; one channel without an axis stays so."""
    return np.moveaxis(values, -1, 0) if values.ndim == 3 else values


def write_pages(path, pages, **kwargs):
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, contiguous=False, **BANDS, **kwargs)


def draw(dtype, channels, shape=(24, 36)):
    """Values over much of what a type holds."""
    rng = np.random.default_rng(channels)
    if dtype.startswith('float'):
        return rng.normal(0, 1e4, (*shape, channels)).astype(dtype)
    ends = np.iinfo(dtype)
    return rng.integers(ends.min, ends.max, (*shape, channels), dtype, endpoint=True)


def by_hand(values, ranges):
    """Slow: one value at a time, in Python's numbers."""
    out = np.empty(values.shape)
    for (y, x, c), value in np.ndenumerate(values):
        low, high = ranges[c]
        out[y, x, c] = min(max((float(value) - low) / (high - low), 0.0), 1.0) * 255
    return out


@pytest.mark.parametrize('kind', [*TIFFS, *ARRAYS])
@pytest.mark.parametrize('channels', [1, 2, 4, 5, 13])
def test_bytes_are_read_as_they_are(tmp_path, kind, channels):
    values = draw('uint8', channels)
    path = str(tmp_path / ('a.tif' if kind in TIFFS else 'a.npy'))
    # tifffile takes a last axis of one as the width of pages.
    {**TIFFS, **ARRAYS}[kind](path, values if channels > 1 or kind == 'pages' else values[..., 0])
    read = read_channels(path, channels)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    assert np.array_equal(read, values)


@pytest.mark.parametrize('dtype', REAL)
@pytest.mark.parametrize('kind', ['interleaved', 'planes', 'pages', 'channels last'])
def test_values_of_any_type_are_scaled_channel_by_channel(tmp_path, dtype, kind):
    values = draw(dtype, 4)
    path = str(tmp_path / ('a.tif' if kind in TIFFS else 'a.npy'))
    {**TIFFS, **ARRAYS}[kind](path, values)
    ranges = [np.percentile(values[..., c], (5 + c, 90 - c)).tolist() for c in range(4)]
    read = read_channels(path, 4, ranges)
    assert read.dtype == np.float32
    np.testing.assert_allclose(read, by_hand(values, ranges), atol=1e-4)


def test_the_last_bit_of_32_is_seen():
    """A float of 32 bits has 24 for the number: low ends far from zero would swallow steps."""
    from mcl_mm.datasets.channels import scale

    values = np.arange(4_000_000_000, 4_000_000_256, dtype=np.uint32).reshape(16, 16, 1)
    read = scale(values, [(4_000_000_000, 4_000_000_255)])
    assert np.array_equal(read[..., 0], np.arange(256).reshape(16, 16))


def test_more_than_8_bits_are_not_rounded(tmp_path):
    np.save(tmp_path / 'a.npy', np.arange(1024, dtype=np.uint16).reshape(32, 32))
    read = read_channels(str(tmp_path / 'a.npy'), 1, [(0, 4095)])
    assert len(np.unique(read)) == 1024


@pytest.mark.parametrize('mode', ['L', 'LA', 'RGB', 'RGBA', 'P', '1'])
def test_pictures_keep_their_channels(tmp_path, mode):
    """Alpha is a channel, of a palette the colours count, and the order is that of the file."""
    image = Image.fromarray(draw('uint8', 3)).convert('L' if mode == '1' else 'RGBA').convert(mode)
    image.save(tmp_path / 'a.png')
    channels = dict(L=1, LA=2, RGB=3, RGBA=4, P=3)
    expected = np.asarray(image.convert({'P': 'RGB', '1': 'L'}.get(mode, mode)))
    read = read_channels(str(tmp_path / 'a.png'), channels.get(mode, 1))
    assert np.array_equal(read, expected.reshape(read.shape))


def test_png_of_16_bits_in_the_order_of_the_file(tmp_path):
    values = draw('uint16', 3)
    cv2.imwrite(str(tmp_path / 'a.png'), values[..., ::-1])  # OpenCV writes BGR
    read = read_channels(str(tmp_path / 'a.png'), 3, [(0, 65535)] * 3)
    np.testing.assert_allclose(read, values / 257, atol=1e-4)


def test_a_tiff_is_turned_upright(tmp_path):
    values = draw('uint8', 5)
    extra = [(274, 'H', 1, 6, True)]  # to be turned clockwise
    tifffile.imwrite(tmp_path / 'a.tif', values, planarconfig='contig', extratags=extra, **BANDS)
    read = read_channels(str(tmp_path / 'a.tif'), 5)
    assert np.array_equal(read, np.rot90(values, -1))


def test_smaller_copies_among_the_pages_do_not_count(tmp_path):
    pages = np.moveaxis(draw('uint16', 2), -1, 0)
    with tifffile.TiffWriter(tmp_path / 'a.tif') as writer:
        for page in pages:
            writer.write(page, contiguous=False, **BANDS)
            writer.write(page[::2, ::2], subfiletype=1, contiguous=False, **BANDS)
    read = read_channels(str(tmp_path / 'a.tif'), 2, [(0, 65535)] * 2)
    np.testing.assert_allclose(read, np.moveaxis(pages, 0, -1) / 257, atol=1e-4)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil(path, kind):
    """Write a file that cannot be used as one of four channels."""
    values = draw('uint8', 4)
    writers = dict(
        three=lambda: np.save(path, values[..., :3]),
        four_dimensions=lambda: np.save(path, values[None]),
        complex=lambda: np.save(path, values.astype(complex)),
        pickled=lambda: np.save(path, np.array([{}], dtype=object), allow_pickle=True),
        nan=lambda: np.save(path, np.where(values > 250, np.nan, 1.0)),
        deep=lambda: np.save(path, values.astype(np.uint16)),
        small=lambda: np.save(path, values[:9]),
        cut_array=lambda: [np.save(path, values), cut(path)],
        empty=lambda: path.write_bytes(b''),
        text=lambda: path.write_text('no image'),
        tiff=lambda: TIFFS['interleaved'](path, values[..., :2]),
        cut_tiff=lambda: [TIFFS['interleaved'](path, values), cut(path)],
        cut_deflated=lambda: [TIFFS['deflated'](path, values), cut(path)],
        colours=lambda: Image.fromarray(values[..., :3]).save(path, 'PNG'),
    )
    writers[kind]()


@pytest.mark.parametrize(
    ('kind', 'reason'),
    [
        ('three', 'other channels: it has 3, not channels=4'),
        ('tiff', 'other channels: it has 2, not channels=4'),
        ('colours', 'other channels: it has 3, not channels=4'),
        ('four_dimensions', 'other channels: an array of 4 dimensions'),
        ('complex', 'damaged: its values are complex128, not numbers'),
        ('pickled', 'damaged: '),
        ('nan', 'damaged: pixels that are not finite numbers'),
        ('deep', 'no value range: its values are uint16. Set value_range='),
        ('small', 'too small: 36 x 9 pixels'),
        ('cut_array', 'damaged: '),
        ('cut_tiff', 'damaged: '),
        ('cut_deflated', 'damaged: '),
        ('empty', 'empty file'),
        ('text', 'not an image'),
    ],
)
def test_what_cannot_be_used_is_a_bad_image_with_its_reason(tmp_path, kind, reason):
    path = tmp_path / 'a.npy'
    spoil(path, kind)
    # np.save and Pillow add an ending to other names; the content decides
    with pytest.raises(BadImageError) as caught:
        read_channels(str(path), 4)
    assert caught.value.reason.startswith(reason)
    assert '\n' not in caught.value.reason


def test_a_file_that_is_gone_is_a_bad_image(tmp_path):
    with pytest.raises(BadImageError, match='not readable: No such file'):
        read_channels(str(tmp_path / 'a.tif'), 4)


def test_a_claimed_giant_is_refused_before_it_is_held(tmp_path):
    shape = (1 << 20, 1 << 20, 4)
    header = dict(descr='|u1', fortran_order=False, shape=shape)
    with open(tmp_path / 'a.npy', 'wb') as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(BadImageError, match='damaged'):
        read_channels(str(tmp_path / 'a.npy'), 4)


def test_measured_ranges_means_and_deviations_are_those_of_numpy():
    rng = np.random.default_rng(0)
    samples = [rng.normal(100 * c, 10, (500, 3)).astype(np.float32) for c in range(1, 4)]
    found = measure_channels(samples)
    values = np.concatenate(samples).astype(np.float64)
    for c in range(3):
        low, high = np.percentile(values[:, c], (0.1, 99.9))
        assert found.value_range[c] == pytest.approx((low, high))
        scaled = np.clip((values[:, c] - low) / (high - low), 0, 1) * 255
        assert found.mean[c] == pytest.approx(scaled.mean(), abs=1e-3)
        assert found.std[c] == pytest.approx(scaled.std(), abs=1e-3)
    assert found.flat == []


def test_bytes_have_no_range_and_a_dead_channel_is_named():
    samples = [np.random.default_rng(0).integers(0, 256, (400, 3)).astype(np.uint8)]
    samples[0][:, 1] = 7
    found = measure_channels(samples)
    assert found.value_range is None
    assert found.flat == [2]
    assert (found.mean[1], found.std[1]) == (7.0, 1.0)


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        ([0, 10], ((0.0, 10.0), (0.0, 10.0))),
        ([[0, 10], (5, 6.5)], ((0.0, 10.0), (5.0, 6.5))),
        (None, None),
    ],
)
def test_a_range_for_all_channels_or_for_each(tmp_path, given, expected):
    assert read_value_range(given, 2) == expected
    write_value_range(str(tmp_path / 'r.json'), given, 3, mean=[1, 2])
    assert read_value_range(str(tmp_path / 'r.json'), 2) == expected


@pytest.mark.parametrize(
    'given', [[[0, 1]], [[0, 1], [2]], [[1, 0], [0, 1]], 7, [0, 1, 2], [[0, 1], 5]]
)
def test_ranges_of_other_channels_are_refused_with_what_to_write(given):
    with pytest.raises(ValueError, match='value_range of 2 channels must be a pair'):
        read_value_range(given, 2)


def test_ranges_in_words():
    assert describe_range((0.0, 10.0)) == '0 to 10'
    assert describe_range([(0.0, 10.0), (0.5, 2.0)]) == '0 to 10, 0.5 to 2'
    assert describe_range([(0.0, 10.0)] * 3) == '0 to 10'


@pytest.fixture
def folders(tmp_path):
    """A TIFF and two arrays of 12 bits in two folders, and one file with other channels."""
    for number, name in enumerate(['a/0.tif', 'b/1.npy', 'b/c/2.npy']):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number).integers(0, 4096, (40, 50, 4)).astype(np.uint16)
        kind = TIFFS['planes'] if name.endswith('tif') else ARRAYS['channels first']
        kind(str(tmp_path / name), values)
    (tmp_path / 'other').mkdir()
    np.save(tmp_path / 'other/3.npy', np.zeros((40, 50, 3), np.uint16))
    return tmp_path


def test_a_set_of_folders_has_a_range_for_each_channel(folders):
    images = UnlabelledImages(
        str(folders), channels=4, folders=['a', 'b'], pipeline=[dict(type='mcl_mm.LoadAnyImage')]
    )
    assert len(images) == 3
    files = [np.load(path) for path in folders.glob('b/**/*.npy')]
    files.append(tifffile.imread(folders / 'a/0.tif'))
    bands = [np.concatenate([file[c].ravel() for file in files]) for c in range(4)]
    expected = [np.percentile(band, (0.1, 99.9)) for band in bands]
    # of 4096 drawn values an image
    np.testing.assert_allclose(images.value_range, expected, atol=25)
    item = images[1]
    assert item['img'].shape == (40, 50, 4)
    values = np.moveaxis(np.load(item['img_path']), 0, -1)
    np.testing.assert_allclose(item['img'], by_hand(values, images.value_range), atol=1e-3)
    elsewhere = UnlabelledImages(
        str(folders / 'a'), channels=4, folders=['.', str(folders / 'b')], pipeline=[]
    )
    assert len(elsewhere) == 3


def test_without_the_setting_arrays_are_no_images_and_bands_become_rgb(folders):
    images = UnlabelledImages(str(folders), pipeline=[], lazy_init=True)
    assert [info['img_path'][-5:] for info in images.find_images()] == ['0.tif']
    assert images.passed_over['.npy'] == 3
    said = describe_passed_over(images.passed_over)
    assert said == '3 .npy. .npy are read where channels=N says how many channels they have'


def test_gray_that_was_stored_as_rgb_is_one_channel(tmp_path):
    gray = np.random.default_rng(0).integers(0, 256, (20, 30, 1), dtype=np.uint8)
    for ending in ('png', 'jpg', 'tif'):
        path = str(tmp_path / f'a.{ending}')
        Image.fromarray(gray.repeat(3, 2)).save(path)
        np.testing.assert_array_equal(read_channels(path, 1), np.asarray(Image.open(path))[..., :1])
    gray = gray.repeat(3, 2)
    gray[5, 5, 2] ^= 1
    Image.fromarray(gray).save(tmp_path / 'b.png')
    with pytest.raises(BadImageError, match='it has 3, not channels=1'):
        read_channels(str(tmp_path / 'b.png'), 1)


def test_a_file_with_other_channels_gives_way_to_another(folders):
    images = UnlabelledImages(
        str(folders),
        channels=4,
        pipeline=[dict(type='mcl_mm.LoadAnyImage'), dict(type='mmpretrain.PackInputs')],
    )
    place = next(i for i in range(4) if images.get_data_info(i)['img_path'].endswith('3.npy'))
    item = images[place]
    ((path, reason),) = set(map(tuple, item['data_samples'].bad_images))  # may be drawn again
    assert path.endswith('3.npy')
    assert reason == 'other channels: it has 3, not channels=4'
    assert item['inputs'].shape == (4, 40, 50)


def test_a_list_brings_its_measured_ranges(folders):
    (folders / 'good.txt').write_text('a/0.tif\nb/1.npy\n')
    ranges = [[0, 4095], [1, 4095], [2, 4095], [3, 4095]]
    write_value_range(str(folders / f'good.txt{RANGE_FILE}'), ranges, 2)
    images = UnlabelledImages(
        str(folders), channels=4, ann_file=str(folders / 'good.txt'), pipeline=[]
    )
    assert [list(pair) for pair in images.value_range] == ranges
    assert not images.range_measured


@pytest.mark.parametrize('channels', [0, -1, 2.0, '4', True, [4]])
@pytest.mark.parametrize('part', [LoadAnyImage, lambda **kw: UnlabelledImages('.', **kw)])
def test_what_is_no_number_of_channels_is_refused(part, channels):
    with pytest.raises(ValueError, match='channels must be a whole number from 1, got'):
        part(channels=channels)


@pytest.mark.parametrize(
    'transform',
    [
        dict(type='mmpretrain.ColorJitter', brightness=0.4),
        dict(type='RandomGrayscale', prob=0.2),
        dict(type='mmpretrain.MultiView', num_views=[2], transforms=[[]]),
    ],
)
def test_views_for_rgb_are_refused_with_what_to_take(folders, transform):
    pipeline = [dict(type='mcl_mm.LoadAnyImage'), transform]
    with pytest.raises(
        ValueError, match=r'channels=4: \S+ is for RGB images\. Cut views with NativeViews'
    ):
        UnlabelledImages(str(folders), channels=4, pipeline=pipeline)
