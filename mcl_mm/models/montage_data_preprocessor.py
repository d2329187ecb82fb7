"""From a batch of uint8 views to the two sides' normalised sheets."""

from collections.abc import Sequence
from typing import Optional

import torch
from mmengine.model import ModuleList
from mmpretrain.models import SelfSupDataPreprocessor

from mcl_mm.registry import MODELS, TRANSFORMS

from .channel_means import ChannelMeans
from .montage import Montage


@MODELS.register_module()
class MontageDataPreprocessor(ChannelMeans, SelfSupDataPreprocessor):
    """Move views to the device, augment and assemble both sides' montages there and normalise them.

    Args:
        montage (dict): A :class:`~mcl_mm.models.MontageTransform`. Defaults to
            ``dict(type='mcl_mm.MontageTransform')``.
        photometric (Sequence[dict], optional): The :class:`PhotometricAugmentation` of side *q* and
            that of side *k*, for views (BGR) that come without, or two :class:`ChannelAugmentation`. Blur
            shrinks with the side of a view. Defaults to None, views stay as they are.
        **kwargs: ``mean``, ``std`` (per channel, any number of them, in the range of the views),
            ``bgr_to_rgb`` and the rest of mmpretrain's ``SelfSupDataPreprocessor``.
    """

    def __init__(
        self,
        montage: dict = dict(type='mcl_mm.MontageTransform'),
        photometric: Optional[Sequence[dict]] = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)
        self.montage = TRANSFORMS.build(montage)
        if photometric is not None and len(photometric) != 2:
            raise ValueError(f'photometric: one for side q, one for side k; got {len(photometric)}')
        self.photometric = photometric and ModuleList(MODELS.build(part) for part in photometric)

    @torch.compiler.disable  # how many images change in which way differs from batch to batch
    def forward(self, data: dict, training: bool = False) -> dict:
        """Assemble a batch.

        Args:
            data (dict): ``inputs``: the views of a batch, a list of ``2 * L`` uint8 tensors
                ``(B, 3, S, S)`` or, on level ``k``, ``(B, 3, S / r_k, S / r_k)``, side *q*'s levels
                first; or plain images ``(N, 3, H, W)``, which are normalised and no more. With
                ``channels=N`` of the data set all have N channels, uint8 or float32.
                ``data_samples`` (optional).
            training (bool): Not used. Defaults to False.

        Returns:
            dict: ``inputs``: ``(Montage, Montage)``, sides *q* and *k*, or images; ``data_samples``.

        Raises:
            ValueError: See :class:`~mcl_mm.models.MontageTransform`; sides not divisible by 32.
        """
        if torch.is_tensor(data['inputs']):
            return super().forward(data)
        data = self.cast_data(data)
        views = data['inputs']
        levels, side = len(views) // 2, views[0].shape[-1]
        if side % 32:
            raise ValueError(
                f'the side of the views must be a multiple of 32 pixels, got {side}: change `scale` '
                'of RandomResizedCrop in both view pipelines, or `side` of NativeViews'
            )
        if self.photometric is not None:
            views = [
                self.photometric[index // levels](view, scale=view.shape[-1] / side)
                for index, view in enumerate(views)
            ]
        # The montage only moves pixels, so it commutes with normalisation and may run on bytes.
        sides = self.montage(views[:levels], views[levels:])
        sheets = [
            super(MontageDataPreprocessor, self).forward(
                dict(inputs=list(side.sheets), data_samples=None)
            )['inputs']
            for side in sides
        ]
        return dict(
            inputs=tuple(Montage(tuple(s), side.sources) for s, side in zip(sheets, sides)),
            data_samples=data.get('data_samples'),
        )
