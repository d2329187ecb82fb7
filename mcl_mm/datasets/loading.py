"""Image files of any kind, as three bytes a pixel, and which of them can be used."""

import os
from typing import Optional

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from mcl_mm.registry import TRANSFORMS

# What lies behind transparent pixels is arbitrary, so they are shown as a page would: on white.
BACKGROUND = (255, 255, 255, 255)
# Shorter side, pixels. The smallest random crop keeps a fifth of the area: 7 x 7 pixels of 16 x 16.
MIN_SIDE = 16
# 8192 x 8192: 0.3 GB once decoded, 1 GB while transparent pixels are put on white.
MAX_PIXELS = 2**26


class BadImageError(OSError):
    """An image file that cannot be used.

    Args:
        path (str): The file.
        reason (str): Why, as ``kind`` or ``kind: details`` on one line. Kinds are ``not readable``,
            ``empty file``, ``not an image``, ``damaged``, ``too small`` and ``too large``.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f'cannot use image {path}: {reason}')
        self.path, self.reason = path, reason


def read_image(path: str, min_side: Optional[int] = None) -> Image.Image:
    """Decode an image file as :func:`to_rgb` shows it, in bounded memory.

    This alone decides which files are used, in training and in ``tools/check_images.py``: those that
    decode to the end, with a shorter side of at least ``MIN_SIDE`` and at most ``MAX_PIXELS`` pixels.
    A larger baseline JPEG is decoded at 1/2, 1/4 or 1/8 of its size, which no decoder of other
    formats can do without holding all of it.

    Args:
        path (str): An image file.
        min_side (int, optional): Decode a JPEG at 1/2, 1/4 or 1/8 of its size as long as no side falls
            below this. Defaults to None, at full size.

    Returns:
        PIL.Image.Image: Mode RGB, decoded.

    Raises:
        BadImageError: The file cannot be used.
    """
    try:
        if os.path.getsize(path) == 0:
            raise BadImageError(path, 'empty file')
        with open_image(path) as image:
            width, height = image.size
            if min(width, height) < MIN_SIDE:
                raise BadImageError(
                    path, f'too small: {width} x {height} pixels, a side needs {MIN_SIDE}'
                )
            if width * height > MAX_PIXELS:
                # A progressive JPEG is held whole, at 2 bytes a coefficient, whatever its output.
                if isinstance(image, JpegImageFile) and 'progressive' not in image.info:
                    shrink = next(s for s in (2, 4, 8) if width * height <= MAX_PIXELS * s**2)
                    image.draft(None, (width // shrink, height // shrink))
                else:
                    raise BadImageError(
                        path,
                        f'too large: {width} x {height} pixels, at most {MAX_PIXELS} unless it is a '
                        'baseline JPEG; shrink it or cut it up',
                    )
            elif min_side is not None:
                image.draft(None, (min_side, min_side))
            return to_rgb(image)
    except (BadImageError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise whatever comes up
        raise BadImageError(path, describe(error)) from error


def open_image(path: str) -> Image.Image:
    """Open an image file without decoding it, a large JPEG too."""
    try:
        return Image.open(path)
    except Image.DecompressionBombError as error:  # more than twice PIL.Image.MAX_IMAGE_PIXELS
        try:
            return JpegImageFile(path)
        except SyntaxError:
            raise BadImageError(path, f'too large: {error}') from error


def describe(error: Exception) -> str:
    """The reason of a :class:`BadImageError`, from what Pillow or the system raised."""
    if isinstance(error, UnidentifiedImageError):
        return 'not an image'
    kind, details = 'damaged', str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        kind, details = 'not readable', error.strerror
    return f'{kind}: {" ".join(details.split())}'


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as a viewer shows it: upright (EXIF), on white, in RGB.

    Grayscale of more than 8 bits is scaled, not clipped: 16 bits by their range, 32 bits and floats by
    the smallest of 1, 255, 65535 and their own maximum that holds them. Of an animation, the first
    frame.

    Args:
        image (PIL.Image.Image): An image of any mode; it is loaded and turned upright.

    Returns:
        PIL.Image.Image: Mode RGB.

    Raises:
        ValueError: Floats that are not finite.
    """
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode[0] in 'IF':  # more than 8 bits a pixel
        values = np.array(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ValueError('pixels that are not finite numbers')
        ranges = (65535,) if image.mode.startswith('I;16') else (1, 255, 65535)
        full = next((limit for limit in ranges if values.max() <= limit), values.max())
        values *= 255 / full
        image = Image.fromarray(values.clip(0, 255, out=values).astype(np.uint8))
    if image.mode in ('LA', 'PA', 'La', 'RGBA', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, BACKGROUND), image)
    return image.convert('RGB')


@TRANSFORMS.register_module()
class LoadAnyImage(BaseTransform):
    """Read an image file of any kind as a viewer shows it (MMCV's loader mistakes CMYK and alpha).

    The channels come out as BGR, in which MMCV's colour transforms weigh and turn them; the data
    preprocessor makes RGB of them.

    **Required Keys:** ``img_path``.

    **Added Keys:** ``img`` (uint8, ``(H, W, 3)``, BGR), ``img_shape`` and ``ori_shape``
    (``(H, W)``).

    Args:
        min_side (int, optional): See :func:`read_image`. Defaults to None, images at full size.
    """

    def __init__(self, min_side: Optional[int] = None) -> None:
        self.min_side = min_side

    def transform(self, results: dict) -> dict:
        """Read ``results['img_path']``.

        Raises:
            BadImageError: The file cannot be used; see :func:`read_image`.
        """
        image = read_image(results['img_path'], self.min_side)
        results['img'] = mmcv.rgb2bgr(np.asarray(image))
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(min_side={self.min_side})'
