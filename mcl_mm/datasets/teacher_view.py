"""The whole image beside its views, for a network that does not learn."""

from collections.abc import Sequence
from typing import Union

import torch
from mmcv.transforms import BaseTransform, Compose
from torchvision.transforms.v2 import functional as F

from mcl_mm.registry import TRANSFORMS

from .settings import check_number


@TRANSFORMS.register_module()
class TeacherView(BaseTransform):
    """Add the whole image, at a teacher's size, behind the views that other transforms make of it.

    It is squeezed to a square (bilinear, antialiased), the same in every epoch.

    **Required Keys:** ``img`` (uint8, ``(H, W, 3)``) and what ``views`` need.

    **Modified Keys:** ``img``: list of what ``views`` give and, at the end, the image, uint8,
    ``(size, size, 3)``.

    Args:
        size (int): Side of the image, pixels, that of ``model.teacher``.
        views (dict | Sequence[dict]): What makes the views, :class:`NativeViews` or mmpretrain's
            ``MultiView``.

    Raises:
        ValueError: ``size`` is not a positive whole number.
    """

    def __init__(self, size: int, views: Union[dict, Sequence[dict]]) -> None:
        check_number('size', size, low=1, whole=True)
        self.size = size
        self.views = Compose([views] if isinstance(views, dict) else views)

    def transform(self, results: dict) -> dict:
        """Replace the image by its views and itself."""
        pixels = torch.from_numpy(results['img']).permute(2, 0, 1)
        whole = F.resize(pixels, [self.size, self.size], antialias=True).permute(1, 2, 0)
        results = self.views(results)
        results['img'] = [*results['img'], whole.numpy()]
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, views={self.views})'
