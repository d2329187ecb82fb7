"""Image files of any kind, as three bytes a pixel."""

from collections.abc import Sequence
from typing import Optional, Union

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mcl_mm.registry import TRANSFORMS

from .channels import check_channels, read_channels
from .decoding import BadImageError, Pixels, describe, load_pixels, load_pixels_alone
from .depth import FULL_16_BITS, ValueRange, read_value_range, to_bytes
from .settings import check_number

# What lies behind transparent pixels is arbitrary, so they are shown as a page would: on white.
BACKGROUND = (255, 255, 255, 255)


def read_image(
    path: str, min_side: Optional[int] = None, value_range: Optional[ValueRange] = None
) -> Image.Image:
    """Decode an image file as :func:`to_rgb` shows it, in bounded memory.

    This alone decides which files are used, in training and in ``check-images``: those whose pixels
    decode to the end, with a shorter side of at least ``MIN_SIDE`` and at most ``MAX_PIXELS`` pixels.
    A larger baseline JPEG is decoded at 1/2, 1/4 or 1/8 of its size, which no decoder of other
    formats can do without holding all of it.

    Args:
        path (str): An image file.
        min_side (int, optional): Decode a JPEG at 1/2, 1/4 or 1/8 of its size as long as no side falls
            below this. Defaults to None, at full size.
        value_range (tuple[float, float], optional): See :func:`to_rgb`. Defaults to None.

    Returns:
        PIL.Image.Image: Mode RGB, decoded.

    Raises:
        BadImageError: The file cannot be used.
    """
    return finish(path, load_pixels(path, min_side), min_side, value_range)


def finish(
    path: str,
    pixels: Pixels,
    min_side: Optional[int] = None,
    value_range: Optional[ValueRange] = None,
) -> Image.Image:
    """The second half of :func:`read_image`, which takes and raises the same.

    Args:
        pixels (PIL.Image.Image | np.ndarray): Of :func:`~mcl_mm.datasets.decoding.load_pixels`.
    """
    try:
        try:
            return to_rgb(pixels, value_range)
        except ValueError as error:  # also transparency of a palette that does not fit it
            if isinstance(pixels, np.ndarray):
                raise
            return to_rgb(load_pixels_alone(path, min_side, describe(error)))
    except (BadImageError, MemoryError):
        raise
    except Exception as error:
        raise BadImageError(path, describe(error)) from error


def to_rgb(pixels: Pixels, value_range: Optional[ValueRange] = None) -> Image.Image:
    """A picture as a viewer shows it: on white, in RGB. Of an animation, the first frame.

    Args:
        pixels (PIL.Image.Image | np.ndarray): Of :func:`load_pixels`.
        value_range (tuple[float, float], optional): What becomes black and white of values that have
            more than 8 bits. Defaults to None: all that unsigned 16 bits hold; others are refused.

    Returns:
        PIL.Image.Image: Mode RGB.

    Raises:
        ValueError: Values that are not finite, or whose range is not known.
    """
    image = deep_to_image(pixels, value_range) if isinstance(pixels, np.ndarray) else pixels
    if image.mode in ('LA', 'PA', 'La', 'RGBA', 'RGBa') or 'transparency' in image.info:
        image = image.convert('RGBA')
        image = Image.alpha_composite(Image.new('RGBA', image.size, BACKGROUND), image)
    return image.convert('RGB')


def deep_to_image(values: np.ndarray, value_range: Optional[ValueRange]) -> Image.Image:
    """Bytes of values of more than 8 bits; transparency has its own range, that of its type."""
    if values.ndim == 2:
        return Image.fromarray(to_bytes(values, value_range))
    full = FULL_16_BITS if values.dtype.kind in 'ui' else (0.0, 1.0)
    ranges = [value_range] * 3 + [full]
    bands = [to_bytes(values[..., i], ranges[i]) for i in range(values.shape[2])]
    return Image.fromarray(np.stack(bands, axis=-1))


@TRANSFORMS.register_module()
class LoadAnyImage(BaseTransform):
    """Read an image file of any kind as a viewer shows it (MMCV's loader mistakes CMYK and alpha).

    The channels come out as BGR, in which MMCV's colour transforms weigh and turn them; the data
    preprocessor makes RGB of them.

    With ``channels`` nothing is converted: see :func:`~mcl_mm.datasets.channels.read_channels`.

    **Required Keys:** ``img_path``; ``value_range`` and ``channels`` (optional), the data set's, count
    before those that are set here.

    **Added Keys:** ``img`` (uint8, ``(H, W, 3)``, BGR; with ``channels`` ``(H, W, channels)``, uint8 or
    float32), ``img_shape`` and ``ori_shape`` (``(H, W)``).

    Args:
        min_side (int, optional): See :func:`read_image`. Defaults to None, images at full size.
        value_range (Sequence[float] | str, optional): What becomes black and white of images with more
            than 8 bits, or the file in which ``check-images`` has written it; with ``channels``, for all
            or for each. Defaults to None; see :func:`to_rgb`.
        channels (int, optional): How many an image has. Defaults to None: all are made RGB.

    Raises:
        ValueError: A setting is of a wrong kind.
    """

    def __init__(
        self,
        min_side: Optional[int] = None,
        value_range: Union[Sequence, str, None] = None,
        channels: Optional[int] = None,
    ) -> None:
        if min_side is not None:
            check_number('min_side', min_side, low=1, whole=True)
        check_channels(channels)
        self.min_side, self.channels = min_side, channels
        self.value_range = read_value_range(value_range, channels)

    def transform(self, results: dict) -> dict:
        """Read ``results['img_path']``.

        Raises:
            BadImageError: The file cannot be used; see :func:`read_image`.
        """
        value_range = results.get('value_range') or self.value_range
        path, channels = results['img_path'], results.get('channels') or self.channels
        if channels is not None:
            value_range = read_value_range(value_range, channels)
            results['img'] = read_channels(path, channels, value_range, self.min_side)
        else:
            image = read_image(path, self.min_side, value_range)
            results['img'] = mmcv.rgb2bgr(np.asarray(image))
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(min_side={self.min_side}, value_range={self.value_range}, '
            f'channels={self.channels})'
        )
