"""Files to pixels: any format, upright, whatever stands beside the pixels; and which are refused."""

import os
import warnings
from io import BytesIO
from typing import BinaryIO, Optional, Union

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from .depth import UnknownRangeError, is_deep, is_other_band, read_bands, tiff_size
from .side_information import ORIENTATION, orientation_of, pixels_only
from .storage import as_file, read_bytes
from .tiff import BIG_STARTS, NoReaderError, is_misread

# Shorter side, pixels. The smallest random crop keeps a fifth of the area: 7 x 7 pixels of 16 x 16.
MIN_SIDE = 16
# 8192 x 8192: 0.3 GB once decoded, 1 GB while transparent pixels are put on white.
MAX_PIXELS = 2**26
# EXIF's Orientation: what turns a picture upright, and an array.
UPRIGHT = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT, lambda a: a[:, ::-1]),
    3: (Image.Transpose.ROTATE_180, lambda a: a[::-1, ::-1]),
    4: (Image.Transpose.FLIP_TOP_BOTTOM, lambda a: a[::-1]),
    5: (Image.Transpose.TRANSPOSE, lambda a: a.swapaxes(0, 1)),
    6: (Image.Transpose.ROTATE_270, lambda a: np.rot90(a, -1)),
    7: (Image.Transpose.TRANSVERSE, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
    8: (Image.Transpose.ROTATE_90, np.rot90),
}
Pixels = Union[Image.Image, np.ndarray]

# Pillow remarks on EXIF, MPO and sizes, in every worker; none of it is the user's to mend.
warnings.filterwarnings('ignore', module=r'PIL\.')


class BadImageError(OSError):
    """An image file that cannot be used.

    Args:
        path (str): The file.
        reason (str): Why, as ``kind`` or ``kind: details`` on one line. Kinds are ``not readable``,
            ``empty file``, ``not an image``, ``damaged``, ``no value range``, ``no reader``, ``too small``
            and ``too large``.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'cannot use image {shown(path)}: {reason}')
        self.path, self.reason = path, reason


def shown(path: str) -> str:
    """A path as any terminal and log can print it, whatever bytes it is made of."""
    return os.fsencode(path).decode('utf-8', 'backslashreplace')


def load_pixels(path: str, min_side: Optional[int] = None) -> Pixels:
    """Decode an image file, upright, with the values that it has.

    Pillow reads side information along with the pixels. Where it gives up, the pixels alone get a
    second try, so that only they decide.

    Args:
        path, min_side: As of :func:`read_image`.

    Returns:
        PIL.Image.Image | np.ndarray: An image of at most 8 bits a sample; or the values of another, see
        :func:`~mcl_mm.datasets.depth.read_bands`.

    Raises:
        BadImageError: The file cannot be used.
    """
    try:
        file = as_file(path)
        if (os.path.getsize(path) if file is path else file.getbuffer().nbytes) == 0:
            raise BadImageError(path, 'empty file')
        with open_image(file) as image:
            return decode(image, path, min_side)
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise whatever comes up
        reason = describe(error)
        if reason.startswith('not readable'):
            raise BadImageError(path, reason) from error
        return load_pixels_alone(path, min_side, reason)


def load_pixels_alone(path: str, min_side: Optional[int], reason: str) -> Pixels:
    """The second try: without side information, then by OpenCV what Pillow has no mode for.

    Raises:
        BadImageError: With ``reason`` if the file is of no format that could be tried.
    """
    try:
        data = read_bytes(path)
        alone, info = pixels_only(data) or (data, {})
        try:
            with open_image(BytesIO(alone)) as image:
                return decode(image, path, min_side, data, info)
        except UnidentifiedImageError:
            size = tiff_size(data)
            if size is not None:
                check_size(path, size)
            elif data[:4] not in BIG_STARTS:
                raise BadImageError(path, reason) from None
            return deep_pixels(path, data, orientation_of(info))
    except (BadImageError, MemoryError):
        raise
    except Exception as error:
        raise BadImageError(path, describe(error)) from error


def decode(
    image: Image.Image,
    path: str,
    min_side: Optional[int],
    data: Optional[bytes] = None,
    info: Optional[dict] = None,
) -> Pixels:
    """Decode an opened image; see :func:`load_pixels`.

    Args:
        image (PIL.Image.Image): Opened.
        path (str): Its file.
        min_side (int, optional): See :func:`read_image`.
        data (bytes, optional): The file's content. Defaults to None, not read yet.
        info (dict, optional): What :func:`~mcl_mm.datasets.side_information.pixels_only` has found.
            Defaults to None, the image's own.
    """
    check_size(path, image.size, image)
    if image.format == 'TIFF':
        # Pillow maps a file that it knows by name into memory, with a wrong width where sides are swapped.
        image.filename = ''
        if is_misread(image.tag_v2, image.tag_v2.prefix == b'MM'):
            turned = image.tag_v2.get(ORIENTATION, 1)
            return deep_pixels(path, data or read_bytes(path), turned)
    if min_side is not None and image.width * image.height <= MAX_PIXELS:
        image.draft(None, (min_side, min_side))
    deep = is_deep(image)
    scale_transparency(image)
    image.load()  # before anything else, for Pillow notices a file that ends too early
    orientation = orientation_of(image.info if info is None else info)
    if not deep:
        if image.mode == 'RGBA' and image.format == 'TIFF':
            image = image if not is_other_band(data or read_bytes(path)) else image.convert('RGB')
        return turn(image, orientation)
    if len(image.getbands()) == 1:
        return turn(np.asarray(image), orientation)
    data = data or read_bytes(path)
    _, info = pixels_only(data) or (data, image.info)  # Pillow has turned a TIFF, OpenCV does not
    return deep_pixels(path, data, orientation_of(info))


def deep_pixels(path: str, data: bytes, orientation: int) -> Pixels:
    """What Pillow does not read, upright; see :func:`load_pixels`."""
    values = read_bands(data, lambda size: check_size(path, size))
    return turn(Image.fromarray(values) if values.dtype == np.uint8 else values, orientation)


def scale_transparency(image: Image.Image) -> None:
    """Make a PNG's transparent gray one of 8 bits, as Pillow makes the gray of 2 and 4 bits."""
    tiles = getattr(image, 'tile', None) or ()
    bits = {'L;2': 2, 'L;4': 4}.get(tiles[0][3]) if image.format == 'PNG' and tiles else None
    if bits and isinstance(image.info.get('transparency'), int):
        image.info['transparency'] *= 255 // (2**bits - 1)


def check_size(path: str, size: tuple[int, int], image: Optional[Image.Image] = None) -> None:
    """Refuse what is too small or too large; a baseline JPEG is made small enough.

    Args:
        path (str): The file.
        size (tuple[int, int]): Width and height.
        image (PIL.Image.Image, optional): Opened. Defaults to None, not by Pillow.

    Raises:
        BadImageError: It is.
    """
    width, height = size
    if min(width, height) < MIN_SIDE:
        raise BadImageError(path, f'too small: {width} x {height} pixels, a side needs {MIN_SIDE}')
    if width * height <= MAX_PIXELS:
        return
    # A progressive JPEG is held whole, at 2 bytes a coefficient, whatever its output.
    if not isinstance(image, JpegImageFile) or 'progressive' in image.info:
        raise BadImageError(
            path,
            f'too large: {width} x {height} pixels, at most {MAX_PIXELS} unless it is a baseline '
            'JPEG; shrink it or cut it up',
        )
    shrink = next(s for s in (2, 4, 8) if width * height <= MAX_PIXELS * s**2)
    image.draft(None, (width // shrink, height // shrink))


def open_image(file: Union[str, BinaryIO]) -> Image.Image:
    """Open an image file without decoding it, a large JPEG too."""
    try:
        return Image.open(file)
    except Image.DecompressionBombError as error:  # more than twice PIL.Image.MAX_IMAGE_PIXELS
        try:
            if not isinstance(file, str):
                file.seek(0)
            return JpegImageFile(file)
        except SyntaxError:
            path = file if isinstance(file, str) else 'in memory'
            raise BadImageError(path, f'too large: {error}') from error


def describe(error: Exception) -> str:
    """The reason of a :class:`BadImageError`, from what Pillow or the system raised."""
    if isinstance(error, UnidentifiedImageError):
        return 'not an image'
    kind, details = 'damaged', str(error) or type(error).__name__
    if isinstance(error, UnknownRangeError):
        kind = 'no value range'
    elif isinstance(error, NoReaderError):
        kind = 'no reader'
    elif isinstance(error, OSError) and error.strerror:
        kind, details = 'not readable', error.strerror
    return f'{kind}: {" ".join(details.split())}'


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Turn a picture upright that was stored with one of EXIF's orientations."""
    method, turn_array = UPRIGHT.get(orientation, (None, None))
    if method is None:
        return pixels
    return turn_array(pixels) if isinstance(pixels, np.ndarray) else pixels.transpose(method)
