"""The whole image beside its views, for a network that does not learn."""

from collections.abc import Sequence
from typing import Optional, Union

import numpy as np
import torch
from mmcv.transforms import BaseTransform, Compose
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from mcl_mm.registry import TRANSFORMS

from .settings import check_number
from .teacher_cache import TeacherCache


@TRANSFORMS.register_module()
class TeacherView(BaseTransform):
    """Add the whole image, at a teacher's size, behind the views that other transforms make of it.

    It is squeezed to a square (bilinear, antialiased), the same in every epoch. Its embedding may take
    its place.

    **Required Keys:** ``img`` (uint8, ``(H, W, 3)``), ``img_path`` and what ``views`` need.

    **Modified Keys:** ``img``: list of what ``views`` give and, at the end, the image, uint8,
    ``(size, size, 3)``, or its embedding, a tensor ``(D,)``.

    Args:
        size (int): Side of the image, pixels, that of ``model.teacher``.
        views (dict | Sequence[dict]): What makes the views, :class:`NativeViews` or mmpretrain's
            ``MultiView``.
        cache (str, optional): File with the embeddings of all images, which ``mcl-mm cache-teacher`` writes.
            Defaults to None, the teacher runs.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: ``size`` is not a positive whole number, or the file holds something else.
    """

    def __init__(
        self, size: int, views: Union[dict, Sequence[dict]], cache: Optional[str] = None
    ) -> None:
        check_number('size', size, low=1, whole=True)
        self.size = size
        self.views = Compose([views] if isinstance(views, dict) else views)
        self.cache = TeacherCache(cache) if cache else None

    def transform(self, results: dict) -> dict:
        """Replace the image by its views and itself, or its embedding."""
        own = self.cache.read(results['img_path']) if self.cache else self.whole(results['img'])
        results = self.views(results)
        results['img'] = [*results['img'], own]
        return results

    def whole(self, image: np.ndarray) -> np.ndarray:
        """The image, ``(H, W, 3)``, at the teacher's size; both uint8."""
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        return F.resize(pixels, [self.size] * 2, antialias=True).permute(1, 2, 0).numpy()

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, views={self.views})'


def find_teacher_view(dataset: Dataset) -> tuple[Optional[TeacherView], list, str]:
    """Where a data set makes the images of a teacher.

    Args:
        dataset (Dataset): With a ``pipeline``, or none.

    Returns:
        tuple: The transform, None if there is none; those before it; and a text that differs if they or
        the size do, and so the images.
    """
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', [])
    for place, transform in enumerate(transforms):
        if isinstance(transform, TeacherView):
            before = transforms[:place]
            values = getattr(dataset, 'value_range', None)
            return transform, before, f'{before}, values {values}, {transform.size} pixels'
    return None, [], ''
