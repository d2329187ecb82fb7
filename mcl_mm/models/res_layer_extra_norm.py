"""The fourth stage of a ResNet where a detector without a pyramid (C4) puts it."""

from mmcv.cnn import build_norm_layer
from mmdet.models import ResLayer, ResNet
from torch import Tensor

from mcl_mm.registry import MODELS


@MODELS.register_module()
class ResLayerExtraNorm(ResLayer):
    """MMDetection's ``ResLayer`` with one more norm, as in MoCo's C4 detectors.

    A head for regions is trained on top of the stage, whose size of features differs between
    pre-trainings. `MoCo <https://arxiv.org/abs/1911.05722>`_ therefore normalises them
    (appendix "Implementation details"; ``Res5ROIHeadsExtraNorm`` in its code).

    Args:
        depth (int): Of the ResNet.
        **kwargs: Of ``ResLayer``.
    """

    def __init__(self, depth: int, **kwargs) -> None:
        super().__init__(depth, **kwargs)
        channels = 64 * 2**self.stage * ResNet.arch_settings[depth][0].expansion
        self.norm = build_norm_layer(self.norm_cfg, channels)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Region features ``(R, C, H, W)`` to ``(R, 2C, H/2, W/2)`` (for a stride of 2)."""
        return self.norm(super().forward(x))
