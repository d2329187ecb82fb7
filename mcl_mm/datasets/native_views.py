"""Views at the size they are pasted at: nothing is computed that a montage would throw away."""

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from torch.nn.functional import interpolate

from mcl_mm.registry import TRANSFORMS

from .settings import check_number


@TRANSFORMS.register_module()
class NativeViews(BaseTransform):
    """Cut an image's views straight to the side of their tiles, ``S / r_k`` on level ``k``.

    Each view is a random crop of its own, drawn as mmpretrain's ``RandomResizedCrop`` draws it,
    resized bilinearly with antialiasing (the pixels of Pillow, within 1 of 255, several times as
    fast) and flipped. Colours and blur are left to
    :class:`~mcl_mm.models.PhotometricAugmentation`, on the device.

    **Required Keys:** ``img`` (uint8 or float32, ``(H, W, C)``).

    **Modified Keys:** ``img``: list of ``2 * L`` views (of its dtype, ``(S / r_k, S / r_k, C)``), the
    levels of side *q* first, which ``mmpretrain.PackInputs`` and the data preprocessor take on.

    Args:
        side (int): ``S``, side of a sheet in pixels. Defaults to 224.
        ratios (Sequence[int]): ``r_k``, as those of the montage. Defaults to (1, 2, 4, 8).
        crop_ratio_range (Sequence[float]): Area of a crop as a share of the image. Defaults to
            (0.2, 1.0).
        flip_prob (float): Probability of a horizontal flip. Defaults to 0.5.

    Raises:
        ValueError: A ratio does not divide ``side``; a setting is of a wrong kind; or an image is of
            another dtype.
    """

    def __init__(
        self,
        side: int = 224,
        ratios: Sequence[int] = (1, 2, 4, 8),
        crop_ratio_range: Sequence[float] = (0.2, 1.0),
        flip_prob: float = 0.5,
    ) -> None:
        check_number('side', side, low=1, whole=True)
        check_number('flip_prob', flip_prob, low=0, high=1)
        if not isinstance(ratios, Sequence) or isinstance(ratios, str):
            raise ValueError(
                f'ratios must be a list of numbers, got {ratios!r}: write ratios=[{ratios}]'
            )
        check_area(crop_ratio_range)
        for ratio in ratios:
            check_number('a ratio', ratio, low=1, whole=True)
            if side % ratio:
                raise ValueError(
                    f'ratio {ratio} does not divide the side of a sheet, {side} pixels'
                )
        self.sides = [side // ratio for ratio in ratios] * 2
        self.crop = TRANSFORMS.build(
            dict(type='mmpretrain.RandomResizedCrop', scale=side, crop_ratio_range=crop_ratio_range)
        )
        self.flip_prob = flip_prob

    def transform(self, results: dict) -> dict:
        """Replace the image by its views."""
        image = results['img']
        if image.dtype not in (np.uint8, np.float32):
            raise ValueError(
                f'NativeViews takes pixels of uint8 or float32, got {image.dtype}: load images by '
                'LoadAnyImage, with value_range if they have more than 8 bits'
            )
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        views = []
        for side in self.sides:
            top, left, height, width = self.crop.rand_crop_params(image)
            crop = pixels[..., top : top + height, left : left + width]
            view = interpolate(crop, (side, side), mode='bilinear', antialias=True)[0]
            view = view.permute(1, 2, 0).numpy()
            flipped = np.random.random() < self.flip_prob
            views.append(view[:, ::-1] if flipped else view)
        results['img'] = views
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(sides={self.sides}, '
            f'crop_ratio_range={self.crop.crop_ratio_range}, flip_prob={self.flip_prob})'
        )


def check_area(area: Sequence[float]) -> None:
    """Refuse what is not a range of shares of an image."""
    numbers = list(area) if isinstance(area, (list, tuple)) else []
    plain = all(isinstance(n, (int, float)) for n in numbers)
    if len(numbers) != 2 or not plain or not 0 < numbers[0] <= numbers[1] <= 1:
        raise ValueError(
            'crop_ratio_range must be two numbers, the smallest and the largest share of an image, such '
            f'as [0.2, 1.0]; got {area!r}'
        )
