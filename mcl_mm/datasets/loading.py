"""Image files of any kind, as three bytes a pixel."""

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps, UnidentifiedImageError

from mcl_mm.registry import TRANSFORMS

# What lies behind transparent pixels is arbitrary, so they are shown as a page would: on white.
BACKGROUND = (255, 255, 255, 255)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as a viewer shows it: upright (EXIF), on white, in RGB.

    Grayscale of more than 8 bits is scaled, not clipped: 16 bits by their range, 32 bits and floats by
    the smallest of 1, 255, 65535 and their own maximum that holds them. Of an animation, the first
    frame.

    Args:
        image (PIL.Image.Image): An image of any mode.

    Returns:
        PIL.Image.Image: Mode RGB.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in 'IF':  # more than 8 bits a pixel
        values = np.asarray(image, dtype=np.float32)
        ranges = (65535,) if image.mode.startswith('I;16') else (1, 255, 65535)
        full = next((limit for limit in ranges if values.max() <= limit), values.max())
        image = Image.fromarray((values * (255 / full)).clip(0, 255).astype(np.uint8))
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
    """

    def transform(self, results: dict) -> dict:
        """Read ``results['img_path']``.

        Raises:
            OSError: The file cannot be read as an image; the message names it.
        """
        path = results['img_path']
        try:
            with Image.open(path) as image:
                results['img'] = np.ascontiguousarray(np.asarray(to_rgb(image))[..., ::-1])
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise OSError(f'cannot read {path} as an image: {error}') from error
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}()'
