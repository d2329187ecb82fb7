"""A mean and deviation for each of any number of channels, where MMEngine takes one or three."""

from collections.abc import Sequence
from typing import Optional

import torch
from mmdet.models import DetDataPreprocessor

from mcl_mm.datasets.settings import check_pixels
from mcl_mm.registry import MODELS


class ChannelMeans:
    """Makes a data preprocessor, MMEngine's or one derived from it, take images of any channels.

    Args:
        mean (Sequence[float], optional): Of each channel. Defaults to None, images are not normalised.
        std (Sequence[float], optional): Likewise.
        **kwargs: Of the data preprocessor.

    Attributes:
        channels (int, optional): Images must have as many. Of two means and more that is their number; who
            knows better sets it.

    Raises:
        ValueError: They are no numbers, see :func:`~mcl_mm.datasets.settings.check_pixels`; there are other
            numbers of means and deviations, or channels to swap that are not three.
    """

    channels: Optional[int] = None

    def __init__(
        self,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        **kwargs,
    ) -> None:
        check_pixels(mean, std)
        if mean is None or std is None or len(mean) == len(std) in (1, 3):
            super().__init__(mean=mean, std=std, **kwargs)
            self.channels = 3 if mean is not None and len(mean) == 3 else None
            return
        if len(mean) != len(std):
            raise ValueError(f'mean has {len(mean)} channels and std {len(std)}: give one of each')
        if kwargs.get('bgr_to_rgb') or kwargs.get('rgb_to_bgr'):
            raise ValueError(
                f'{len(mean)} channels have no order RGB or BGR: set bgr_to_rgb=False in data_preprocessor'
            )
        super().__init__(mean=[0.0], std=[1.0], **kwargs)
        self.channels = len(mean)
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    def forward(self, data: dict, training: bool = False) -> dict:
        """As that of the data preprocessor.

        Raises:
            ValueError: Images have other channels.
        """
        for image in data['inputs'] if self.channels else ():
            if image.shape[-3] != self.channels:
                raise ValueError(
                    f'images of {image.shape[-3]} channels, and the model takes {self.channels}: set '
                    f'channels={self.channels} of the data set, or in LoadAnyImage'
                )
        return super().forward(data, training)


@MODELS.register_module()
class ChannelsDetDataPreprocessor(ChannelMeans, DetDataPreprocessor):
    """MMDetection's, for images of any number of channels: of a detector's config.

    Args:
        mean, std (Sequence[float]): Of each channel, as pre-training had them.
        **kwargs: Of ``mmdet.DetDataPreprocessor``.
    """

    def __init__(
        self,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        **kwargs,
    ) -> None:
        super().__init__(mean, std, **kwargs)
        self.channels = len(mean) if mean is not None else None
