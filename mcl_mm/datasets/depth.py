"""Images of more than 8 bits a sample: their values, and the one range that makes bytes of them."""

import json
import math
import os
import re
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, Optional, Union

import cv2
import numpy as np
from PIL import Image

from mcl_mm.files import write_text

from .side_information import pixels_only, read_directory
from .tiff import ALPHA, BIG_STARTS, JUDGED, STARTS, is_misread, read_first_page

ValueRange = tuple[float, float]
ChannelRanges = tuple[ValueRange, ...]  # of a set with channels=N: one each
# What becomes black and white, percent of all values: hot pixels and dead ones decide nothing.
PERCENTILES = (0.1, 99.9)
RANGE_FILE = '.value_range.json'  # what a list's name is followed by
# Of PNG and TIFF themselves, for unsigned 16 bits where nothing has been measured.
FULL_16_BITS = (0.0, 65535.0)
WIDTH, HEIGHT, EXTRA_SAMPLES, GDAL_METADATA = 256, 257, 338, 42112
# A JPEG 2000 codestream: SOC and SIZ, and where the depth of the first band stands behind them.
CODESTREAM, BITS_AT, SEARCHED = b'\xff\x4f\xff\x51', 42, 1 << 20
GDAL_BAND = re.compile(rb'sample="3"\s+role="colorinterp"\s*>\s*(\w+)')


class UnknownRangeError(ValueError):
    """Values of which nothing says what is black and what is white."""


def is_deep(image: Image.Image) -> bool:
    """Whether an opened image has more than 8 bits a sample; Pillow would keep 8 of RGB."""
    if image.mode[0] in 'IF':
        return True
    if image.format == 'JPEG2000':
        return bits_of_jpeg2000(image.fp) > 8
    tiles = getattr(image, 'tile', None) or ()
    return any(';16' in str(tile[3]) for tile in tiles)


def bits_of_jpeg2000(file: BinaryIO) -> int:
    """Bits a sample of an opened file, by its header (ISO 15444-1, A.5.1); 8 where none is found."""
    before = file.tell()
    file.seek(0)
    start = file.read(SEARCHED)
    file.seek(before)
    at = start.find(CODESTREAM) + BITS_AT
    return (start[at] & 0x7F) + 1 if BITS_AT <= at < len(start) else 8


def read_bands(
    data: bytes, check: Optional[Callable[[tuple[int, int]], None]] = None
) -> np.ndarray:
    """Values of a file as OpenCV reads it, where it reads them right; turned as they are stored.

    Args:
        data (bytes): An image file.
        check (Callable, optional): See :func:`~mcl_mm.datasets.tiff.read_first_page`. Defaults to None.

    Returns:
        np.ndarray: ``(H, W)``, or ``(H, W, 3 or 4)`` in the order RGB and alpha, in the file's own type.

    Raises:
        ValueError: It cannot be decoded, or there are other bands than these.
    """
    if data[:4] in BIG_STARTS or (
        data[:4] in STARTS and is_misread(read_tags(data), data[:1] == b'M')
    ):
        values = read_first_page(data, check)
        bands = values.shape[2] if values.ndim == 3 else 1
        return values[..., :3] if bands == 4 and is_other_band(data) else values
    alone, _ = pixels_only(data) or (data, {})  # without Orientation, which OpenCV knows of a TIFF
    values = cv2.imdecode(np.frombuffer(alone, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError('it cannot be decoded')
    if values.ndim == 2:
        return values
    bands = values.shape[2]
    if bands not in (3, 4):
        raise ValueError(f'it has {bands} bands: write three of them into a file of their own')
    values = values[..., [2, 1, 0, 3][:bands]]
    return values[..., :3] if bands == 4 and not has_alpha(data) else values


def tiff_size(data: bytes) -> Optional[tuple[int, int]]:
    """Width and height of a TIFF that Pillow does not know, None if it is none."""
    if data[:4] not in STARTS:
        return None
    try:
        sizes = [read_tag(data, tag) for tag in (WIDTH, HEIGHT)]
    except struct.error:
        return None
    return None if None in sizes else tuple(sizes)


def has_alpha(data: bytes) -> bool:
    """Whether the fourth band of a file is transparency, as far as the file says.

    ExtraSamples of a TIFF says so; GDAL, which calls any fourth band alpha, may add what it is.
    """
    if data[:4] not in STARTS:
        return True
    try:
        kind = read_tag(data, EXTRA_SAMPLES)
    except struct.error:
        return True
    return kind in (None, *ALPHA) and not is_other_band(data)


def is_other_band(data: bytes) -> bool:
    """Whether GDAL's notes in a TIFF call the fourth band something else than alpha."""
    band = GDAL_BAND.search(data) if b'role="colorinterp"' in data else None
    return band is not None and band[1].lower() != b'alpha'


def read_tags(data: bytes) -> dict[int, Optional[int]]:
    """The tags by which :func:`~mcl_mm.datasets.tiff.is_misread` judges a TIFF."""
    return {tag: read_tag(data, tag) for tag in JUDGED}


def read_tag(data: bytes, tag: int) -> Optional[int]:
    """The first number of a TIFF's tag (of 16 or 32 bits), None if it is not there."""
    at = read_directory(data).get(tag)
    if at is None:
        return None
    order = '<' if data[:2] == b'II' else '>'
    kind, count = struct.unpack_from(f'{order}HL', data, at + 2)
    letter = 'L' if kind == 4 else 'H'
    if count * struct.calcsize(order + letter) > 4:  # the entry says where the numbers are
        (at,) = struct.unpack_from(f'{order}L', data, at + 8)
    else:
        at += 8
    return struct.unpack_from(order + letter, data, at)[0]


def to_bytes(values: np.ndarray, value_range: Optional[ValueRange]) -> np.ndarray:
    """Scale values of a range to 0 to 255; what lies outside becomes 0 or 255.

    Args:
        values (np.ndarray): ``(H, W)``, any type.
        value_range (tuple, optional): What becomes 0 and 255. None stands for all of unsigned 16 bits.

    Returns:
        np.ndarray: uint8, ``(H, W)``.

    Raises:
        UnknownRangeError: There is no range, and none goes without saying.
        ValueError: Values that are not finite.
    """
    # In double precision where need be: 32 bits of an integer are more than a float of 32 bits holds.
    scaled = values.astype(np.result_type(values.dtype, np.float32))
    if not np.isfinite(scaled).all():
        raise ValueError('pixels that are not finite numbers')
    if value_range is None and values.dtype.str[1:] != 'u2':
        raise UnknownRangeError(
            f'its values are {values.dtype}, of which only you know what is black and what '
            'is white. Set value_range=[low, high] of the data set, or measure it with check_images'
        )
    low, high = value_range or FULL_16_BITS
    if low:
        scaled -= low
    scaled *= 255 / (high - low)
    return scaled.clip(0, 255, out=scaled).astype(np.uint8)


def measure(samples: Iterable[np.ndarray]) -> ValueRange:
    """The range that holds all but the outermost values of a set.

    Args:
        samples (Iterable[np.ndarray]): Values of each image, as many of each.

    Returns:
        tuple: The ``PERCENTILES`` of all values together; one more than the lower if they are equal.
    """
    values = np.concatenate([s.ravel().astype(np.float64) for s in samples])
    low, high = np.percentile(values, PERCENTILES).tolist()
    return low, (high if high > low else low + 1)


def write_value_range(
    path: str, value_range: Union[ValueRange, ChannelRanges, None], images: int, **more: Any
) -> None:
    """Write a range for :func:`read_value_range`, how it was measured, and what ``more`` is known."""
    found = None if value_range is None else list(value_range)
    record = dict(value_range=found, percentiles=list(PERCENTILES), images=images, **more)
    write_text(path, json.dumps(record, indent=1))


def read_value_range(
    value: Union[Sequence, str, None], channels: Optional[int] = None
) -> Union[ValueRange, ChannelRanges, None]:
    """A value range as it is set in a config.

    Args:
        value (Sequence | str, optional): Low and high, with ``channels`` also a pair for each; or a file
            of :func:`write_value_range`.
        channels (int, optional): Of a set with ``channels=N``. Defaults to None, a set of pictures.

    Returns:
        tuple, optional: Low and high; with ``channels`` such a pair for each.

    Raises:
        OSError, ValueError: There is no such file, or it holds something else; no range is meant.
    """
    if value is None:
        return None
    given = value
    if isinstance(value, (str, os.PathLike)):
        try:
            with open(value, encoding='utf-8') as file:
                value = json.load(file)['value_range']
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f'{given} is not a value range that check_images has written: write '
                'value_range=[low, high]'
            ) from error
    if channels is not None:
        return read_ranges(value, channels)
    numbers = list(value) if isinstance(value, (list, tuple)) else []
    if not is_range(numbers):
        raise ValueError(
            'value_range must be two numbers, what becomes black and what becomes white, such as '
            f'[0, 4095], or a file that check_images has written; got {given!r}'
        )
    return float(numbers[0]), float(numbers[1])


def is_range(pair: Any) -> bool:
    """Whether something is a low and a high number."""
    numbers = list(pair) if isinstance(pair, (list, tuple)) else []
    plain = all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers)
    return len(numbers) == 2 and plain and -math.inf < numbers[0] < numbers[1] < math.inf


def read_ranges(value: Any, channels: int) -> Optional[ChannelRanges]:
    """The second half of :func:`read_value_range` for a set with channels; bytes have no range."""
    if value is None:
        return None
    pairs = [value] * channels if is_range(value) else value
    if (
        not isinstance(pairs, (list, tuple))
        or len(pairs) != channels
        or not all(map(is_range, pairs))
    ):
        raise ValueError(
            f'value_range of {channels} channels must be a pair [low, high], or one for each channel such as '
            f'{[[0, 4095]] * min(channels, 2)}, or a file that check-images --channels {channels} has '
            f'written; got {value!r}'
        )
    return tuple((float(low), float(high)) for low, high in pairs)


def describe_range(value_range: Union[ValueRange, ChannelRanges]) -> str:
    """A range, or that of each channel, as ``0 to 4095``."""
    pairs = [value_range] if is_range(value_range) else list(dict.fromkeys(map(tuple, value_range)))
    return ', '.join(f'{low:g} to {high:g}' for low, high in pairs)
