"""Images that are no photographs: any number of channels, each with values and a range of its own."""

import math
from collections.abc import Iterable
from io import BytesIO
from typing import Any, NamedTuple, Optional

import numpy as np
from PIL import Image

from mcl_mm.config import find_parts

from .decoding import MAX_PIXELS, BadImageError, check_size, describe, load_pixels, turn
from .depth import PERCENTILES, ChannelRanges, UnknownRangeError
from .settings import check_number
from .storage import as_file, read_bytes
from .tiff import BIG_STARTS, STARTS, import_tifffile, read_page

NUMPY = b'\x93NUMPY'
# Transforms that take three channels to be blue, green and red, or bytes of a photograph.
FOR_RGB = (
    *('ColorJitter', 'RandomGrayscale', 'Solarize', 'GaussianBlur', 'MultiView'),
    *('PhotoMetricDistortion', 'YOLOXHSVRandomAug', 'AutoAugment', 'RandAugment', 'Posterize'),
)


def check_channels(channels: Any) -> None:
    """Refuse what is not a number of channels.

    Raises:
        ValueError: It is no whole number from 1, or None.
    """
    if channels is not None:
        check_number('channels', channels, low=1, whole=True)


def check_views(pipeline: Any, channels: Optional[int]) -> None:
    """Refuse views that change colours as those of a photograph.

    Raises:
        ValueError: Names the transform, and what to take.
    """
    part = next(find_parts(pipeline, *FOR_RGB), None)
    if channels and part is not None:
        raise ValueError(
            f'channels={channels}: {part["type"]} is for RGB images. Cut views with NativeViews, and change '
            'their values with ChannelAugmentation in model.data_preprocessor.photometric, as '
            'mcl_r50_small does with channels=N'
        )


def read_channels(
    path: str,
    channels: int,
    value_range: Optional[ChannelRanges] = None,
    min_side: Optional[int] = None,
) -> np.ndarray:
    """Read an image with the channels that it has, in their order in the file.

    Args:
        path (str): A TIFF (bands, or pages of one band), a NumPy array (``(H, W)``, ``(H, W, C)`` or
            ``(C, H, W)``), or any other image of at most four channels. Nothing is done with alpha.
        channels (int): How many there must be. Three equal ones are one: gray that was stored as RGB.
        value_range (Sequence[tuple[float, float]], optional): Of each channel, what becomes 0 and
            255. Defaults to None: the values are bytes.
        min_side (int, optional): As of :func:`~mcl_mm.datasets.loading.read_image`.

    Returns:
        np.ndarray: ``(H, W, channels)``; uint8 as in the file, or with a range float32 in [0, 255],
        not rounded.

    Raises:
        BadImageError: The file cannot be used, or has another number of channels.
    """
    values = load_channels(path, channels, min_side)
    try:
        return scale(values, value_range)
    except ValueError as error:
        raise BadImageError(path, describe(error)) from error


def load_channels(path: str, channels: int, min_side: Optional[int] = None) -> np.ndarray:
    """The values of :func:`read_channels` as they are stored, ``(H, W, channels)``, any real type."""
    try:
        start = first_bytes(path)
    except OSError as error:
        raise BadImageError(path, describe(error)) from error
    if start[:4] in STARTS + BIG_STARTS:
        import_tifffile()
    try:
        if start == NUMPY:
            values = read_numpy(path)
        elif start[:4] in STARTS + BIG_STARTS:
            values = read_tiff(path)
        else:
            pixels = load_pixels(path, min_side)
            values = plain(pixels) if isinstance(pixels, Image.Image) else pixels
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever comes up
        raise BadImageError(path, describe(error)) from error
    return arrange(path, values, channels)


def first_bytes(path: str) -> bytes:
    """What tells NumPy's files and TIFFs from others."""
    file = as_file(path)
    if not isinstance(file, str):
        return file.read(len(NUMPY))
    with open(file, 'rb') as opened:
        return opened.read(len(NUMPY))


def plain(image: Image.Image) -> np.ndarray:
    """Values of a picture; a palette's entries, not their numbers."""
    if image.mode in ('P', 'PA', '1'):
        image = image.convert('L' if image.mode == '1' else 'RGBA' if image.mode == 'PA' else 'RGB')
    return np.asarray(image)


def read_numpy(path: str) -> np.ndarray:
    """An array of numbers from a ``.npy`` file; nothing pickled is read."""
    data = read_bytes(path)
    file = BytesIO(data)
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_2_0
    if version == (1, 0):
        read_header = np.lib.format.read_array_header_1_0
    shape, fortran, dtype = read_header(file)
    # ValueError if the file ends too early.
    flat = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    return flat.reshape(shape, order='F' if fortran else 'C')


def read_tiff(path: str) -> np.ndarray:
    """The bands of a TIFF, or its pages if each has one band; smaller copies of them do not count."""
    with import_tifffile().TiffFile(as_file(path)) as tiff:
        first, series = tiff.pages[0], tiff.series[0]
        if series.ndim > 2:
            check_amount(path, math.prod(series.shape))
            named = [series.axes.find(letter) for letter in 'SC' if letter in series.axes]
            values = np.moveaxis(read_page(series), (named or [-1])[0], -1)
        else:
            pages = [p for p in tiff.pages if not p.is_reduced and not p.is_mask]
            check_amount(path, first.imagewidth * first.imagelength * len(pages))
            values = np.stack([read_page(page) for page in pages], axis=-1)
        orientation = first.tags.get('Orientation')
        return turn(values, orientation.value if orientation else 1)


def check_amount(path: str, values: int) -> None:
    """Refuse more values than four channels of the largest image have."""
    if values > 4 * MAX_PIXELS:
        raise BadImageError(
            path, f'too large: {values} values, at most {4 * MAX_PIXELS}; cut it up'
        )


def arrange(path: str, values: np.ndarray, channels: int) -> np.ndarray:
    """Put the channels of an array last.

    Raises:
        BadImageError: There are others, or the values are no real numbers.
    """
    if values.dtype.kind not in 'uif':
        raise BadImageError(path, f'damaged: its values are {values.dtype}, not numbers')
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim != 3:
        raise BadImageError(path, f'other channels: an array of {values.ndim} dimensions')
    if values.shape[2] != channels and values.shape[0] == channels:
        values = np.moveaxis(values, 0, -1)
    if channels == 1 and values.shape[2] == 3 and (values == values[..., :1]).all():
        values = values[..., :1]  # gray that was stored as RGB
    if values.shape[2] != channels:
        found = min(values.shape[0], values.shape[2])
        raise BadImageError(path, f'other channels: it has {found}, not channels={channels}')
    check_size(path, (values.shape[1], values.shape[0]))
    check_amount(path, values.size)
    return values


def scale(values: np.ndarray, value_range: Optional[ChannelRanges]) -> np.ndarray:
    """Bring the range of each channel to [0, 255]; see :func:`read_channels`.

    Raises:
        UnknownRangeError: There is no range, and the values are no bytes.
        ValueError: Values that are not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError('pixels that are not finite numbers')
    if value_range is None:
        if values.dtype != np.uint8:
            raise UnknownRangeError(
                f'its values are {values.dtype}. Set value_range=[[low, high], ...] of each channel, or '
                'measure it with check-images'
            )
        return np.ascontiguousarray(values)
    scaled = np.empty(values.shape, np.float32)
    for channel, (low, high) in enumerate(value_range):
        # In double precision: 32 bits of an integer are more than a float of 32 bits holds.
        band = (values[..., channel].astype(np.float64) - low) * (255 / (high - low))
        scaled[..., channel] = band.clip(0, 255)
    return scaled


def draw_values(values: np.ndarray, count: int) -> np.ndarray:
    """Values of ``count`` pixels at random, the same ones each time, ``(count, C)``."""
    pixels = values.reshape(-1, values.shape[-1])
    return pixels[np.random.default_rng(0).integers(0, len(pixels), count)]


class Measured(NamedTuple):
    """Each channel of a set.

    Attributes:
        value_range (Sequence[tuple[float, float]], optional): None if all values are bytes.
        mean, std (list[float]): In [0, 255], as :func:`read_channels` gives values.
        flat (list[int]): Channels, from 1, that have one value.
    """

    value_range: Optional[ChannelRanges]
    mean: list[float]
    std: list[float]
    flat: list[int]


def measure_channels(
    samples: Iterable[np.ndarray], value_range: Optional[ChannelRanges] = None
) -> Measured:
    """Measure a set.

    Args:
        samples (Iterable[np.ndarray]): Values of images, each ``(n, C)``, as they are stored.
        value_range (Sequence[tuple[float, float]], optional): Known. Defaults to None: that of all but
            the outermost values of each channel, one more than the lower end if they are equal.
    """
    samples = list(samples)
    values = np.concatenate([sample.astype(np.float64) for sample in samples])
    if value_range is None and any(sample.dtype != np.uint8 for sample in samples):
        ends = np.percentile(values, PERCENTILES, axis=0).T
        ends = [[float(f'{end:.9g}') for end in pair] for pair in ends]
        value_range = tuple((low, high if high > low else low + 1) for low, high in ends)
    scaled = values if value_range is None else scale(values, value_range).astype(np.float64)
    flat = [n for n, size in enumerate(np.ptp(values, axis=0), 1) if size == 0]
    mean = [round(x, 3) for x in scaled.mean(axis=0).tolist()]
    std = [
        round(x, 3) or 1.0 for x in scaled.std(axis=0).tolist()
    ]  # of one value: nothing to scale
    return Measured(value_range, mean, std, flat)
