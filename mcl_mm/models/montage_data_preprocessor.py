"""From a batch of uint8 views to the two sides' normalised sheets."""

from mmpretrain.models import SelfSupDataPreprocessor

from mcl_mm.datasets.montage import Montage
from mcl_mm.registry import MODELS, TRANSFORMS


@MODELS.register_module()
class MontageDataPreprocessor(SelfSupDataPreprocessor):
    """Move views to the device, assemble both sides' montages there and normalise them.

    Args:
        montage (dict): A :class:`~mcl_mm.datasets.MontageTransform`. Defaults to
            ``dict(type='mcl_mm.MontageTransform')``.
        **kwargs: ``mean``, ``std`` (per channel, in the range of the views), ``bgr_to_rgb`` and the rest of
            mmpretrain's ``SelfSupDataPreprocessor``.
    """

    def __init__(self, montage: dict = dict(type='mcl_mm.MontageTransform'), **kwargs) -> None:
        super().__init__(**kwargs)
        self.montage = TRANSFORMS.build(montage)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Assemble a batch.

        Args:
            data (dict): ``inputs``: the views of a batch, a list of ``2 * L`` uint8 tensors
                ``(B, 3, S, S)``, side *q*'s levels first; ``data_samples`` (optional).
            training (bool): Not used. Defaults to False.

        Returns:
            dict: ``inputs``: ``(Montage, Montage)``, sides *q* and *k*; ``data_samples``.

        Raises:
            ValueError: See :class:`~mcl_mm.datasets.MontageTransform`; sides not divisible by 32.
        """
        data = self.cast_data(data)
        views = data['inputs']
        levels = len(views) // 2
        if views[0].shape[-1] % 32:
            raise ValueError(
                f'the side of the views must be a multiple of 32 pixels, got {views[0].shape[-1]}: '
                'change `scale` of RandomResizedCrop in both view pipelines'
            )
        # The montage only moves pixels, so it commutes with normalisation and runs on bytes.
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
