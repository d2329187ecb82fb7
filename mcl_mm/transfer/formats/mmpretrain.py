"""Weights out: MMPretrain's classifiers and whatever else builds its backbones."""

from torch import Tensor

from .rename import Renamed, rename
from .torchvision import resnet_rules

LEFT = [
    (r'neck\..+', "MMPretrain's classifiers have no pyramid"),
    (r'roi_head\..+', "MMPretrain's classifiers have no boxes"),
]


def to_mmpretrain(weights: dict[str, Tensor], backbone: dict) -> Renamed:
    """Keep an export's backbone, whose names MMPretrain shares.

    Args:
        weights (dict[str, Tensor]): An export.
        backbone (dict): Config of the backbone; empty if it is not known.

    Returns:
        Renamed: ``backbone.*``. Pyramid and box-head convs are left behind.

    Raises:
        ValueError: The backbone is MMDetection's and not a plain ResNet or ResNeXt, which both name alike.
    """
    if backbone.get('type', '').startswith('mmdet.'):
        rename(weights, 'MMPretrain', resnet_rules(''), LEFT)
    return rename(weights, 'MMPretrain', [(r'(backbone\..+)', r'\1')], LEFT)
