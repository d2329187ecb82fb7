"""Weights out: MMPretrain's classifiers and whatever else builds its backbones."""

from torch import Tensor

from .rename import Renamed, rename

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
        ValueError: The backbone is MMDetection's and not a plain ResNet, the one that both name alike.
    """
    plain_resnet = 'backbone.conv1.weight' in weights
    if backbone.get('type', '').startswith('mmdet.') and not plain_resnet:
        raise ValueError(
            f'{backbone["type"]} has other names than the backbones of MMPretrain. --to mmdet and '
            '--to safetensors keep it'
        )
    return rename(weights, 'MMPretrain', [(r'(backbone\..+)', r'\1')], LEFT)
