"""TIFFs that Pillow and OpenCV read wrongly, or not at all: tifffile reads them."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, BinaryIO, Optional, Union

import numpy as np

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
BITS, COMPRESSION, COLOURS, SAMPLES, PLANES, KIND = 258, 259, 262, 277, 284, 339
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # of KIND
APART = 2  # of PLANES: one after the other
# None, CCITT, LZW, JPEG, deflate, LZMA, zstd, PackBits. Of others OpenCV may make black, Pillow an error.
CODECS = (*range(1, 9), 32946, 34925, 50000, 32773)
NOT_TO_OTHERS = ((32, UNSIGNED), (64, UNSIGNED), (64, SIGNED), (16, FLOAT))
ALPHA = (1, 2)  # of ExtraSamples: premultiplied, not premultiplied
STARTS, BIG_STARTS = (b'II*\0', b'MM\0*'), (b'II+\0', b'MM\0+')  # of files up to 4 GB, above
JUDGED = (BITS, COMPRESSION, COLOURS, SAMPLES, PLANES, KIND)


class NoReaderError(ValueError):
    """A TIFF that needs a package which is not installed."""


def is_misread(tags: Mapping[int, Any], big_endian: bool) -> bool:
    """Whether Pillow or OpenCV would give other values than a TIFF has, or can give none.

    Found by comparing them with tifffile over all types, orders of bytes, codecs and layouts.

    Args:
        tags (Mapping[int, Any]): Of the first page: numbers, or tuples of them.
        big_endian (bool): Its order of bytes.
    """

    def tag(number: int, default: int) -> int:
        value = tags.get(number)
        value = value[0] if isinstance(value, tuple) and value else value
        return default if value is None or value == () else int(value)

    bits, kind, samples = tag(BITS, 1), tag(KIND, UNSIGNED), tag(SAMPLES, 1)
    compressed, apart = tag(COMPRESSION, 1) != 1, tag(PLANES, 1) == APART and samples > 1
    if tag(COMPRESSION, 1) not in CODECS or (bits == 8 and kind == SIGNED):
        return True
    if bits <= 8:
        return apart and samples == 2
    swapped = big_endian and compressed and (bits > 16 or kind != UNSIGNED)
    return (
        apart
        or swapped
        or samples == 2
        or tag(COLOURS, BLACK_IS_ZERO) == WHITE_IS_ZERO
        or (bits, kind) in NOT_TO_OTHERS
    )


def import_tifffile() -> Any:
    """The reader of TIFFs: Pillow knows none of more than four bands, and OpenCV misreads many."""
    try:
        import tifffile
    except ImportError:
        raise NoReaderError(
            'TIFF files with channels=N, and some others, need tifffile: pip install tifffile imagecodecs'
        ) from None
    return tifffile


def read_page(page: Any) -> np.ndarray:
    """Values of a page, or of a series of pages, of a TIFF, as they are stored.

    Raises:
        NoReaderError: Its compression needs a package.
    """
    try:
        return page.asarray()
    except ValueError as error:
        if "requires the 'imagecodecs' package" not in str(error):
            raise
        raise NoReaderError(
            f'{str(error).split(":")[0].lstrip("<")} needs imagecodecs: pip install imagecodecs'
        ) from None


def read_first_page(
    file: Union[str, bytes, BinaryIO], check: Optional[Callable[[tuple[int, int]], None]] = None
) -> np.ndarray:
    """A picture of a TIFF, not turned.

    Args:
        file (str | bytes | BinaryIO): The file, or its content.
        check (Callable, optional): Called with width and height before anything is decoded; raises where
            they do not please. Defaults to None.

    Returns:
        np.ndarray: ``(H, W)``, or ``(H, W, 3 or 4)`` as RGB and alpha, in the file's own type; black is low.

    Raises:
        NoReaderError: A package is not installed.
        ValueError: It cannot be decoded, or its bands are no gray and no RGB.
    """
    with import_tifffile().TiffFile(BytesIO(file) if isinstance(file, bytes) else file) as tiff:
        page = tiff.pages[0]
        if check:
            check((page.imagewidth, page.imagelength))
        colours, bands = int(page.photometric), page.samplesperpixel
        gray = colours in (WHITE_IS_ZERO, BLACK_IS_ZERO)
        if bands > 4 or not (gray or (colours == RGB and bands >= 3)):
            raise ValueError(
                f'it has {bands} bands, {page.photometric.name}: write it as gray or RGB'
            )
        values = read_page(page)
        if page.planarconfig == APART and bands > 1:
            values = np.moveaxis(values, 0, -1)
        if colours == WHITE_IS_ZERO and values.dtype.kind == 'u':
            values = values.dtype.type(2**page.bitspersample - 1) - values
        alpha = any(int(extra) in ALPHA for extra in page.extrasamples)
    if values.ndim == 2:
        return values
    if gray and bands < 3:  # gray and something else
        return values[..., [0, 0, 0, 1]] if alpha else values[..., 0]
    return values if alpha else values[..., :3]
