"""Weights out: the names of timm's ResNets, and of any network that timm itself has built."""

from torch import Tensor

from .rename import Renamed, refuse_caffe_style, rename
from .torchvision import resnet_rules

# The deep stem of V1c and V1d, as mmpretrain counts its layers and as MMDetection does.
STEM = {
    **{'0.conv': 'conv1.0', '0.bn': 'conv1.1', '1.conv': 'conv1.3'},
    **{'1.bn': 'conv1.4', '2.conv': 'conv1.6', '2.bn': 'bn1'},
    **{'0': 'conv1.0', '1': 'conv1.1', '3': 'conv1.3', '4': 'conv1.4', '6': 'conv1.6', '7': 'bn1'},
}
# V1d's shortcuts begin with a pooling layer. In layer1 it does nothing, and mmpretrain leaves it out.
FIRST_SHORTCUT = [
    (r'backbone\.(layer1\.0\.downsample)\.0\.(\w+)', r'\1.1.\2'),
    (r'backbone\.(layer1\.0\.downsample)\.1\.(\w+)', r'\1.2.\2'),
]
RULES = [
    (r'backbone\.timm_model\.(.+)', r'\1'),
    *((rf'backbone\.stem\.{ours}\.(\w+)', rf'{theirs}.\1') for ours, theirs in STEM.items()),
    *resnet_rules(''),
    (r'backbone\.(layer\d\.0\.downsample\.2\.\w+)', r'\1'),
]
LEFT = [(r'(neck|roi_head)\..+', 'timm has backbones only')]


def to_timm(weights: dict[str, Tensor], backbone: dict) -> Renamed:
    """Name an export's backbone as timm does.

    ResNets and ResNeXts of timm's names ``resnet50``, ``resnet50c`` (V1c) and ``resnet50d`` (V1d), of
    every depth, and whatever was pre-trained as ``mmpretrain.TIMMBackbone``.

    Args:
        weights (dict[str, Tensor]): An export.
        backbone (dict): Config of the backbone; empty if it is not known.

    Returns:
        Renamed: The backbone. Pyramid and box-head convs are left behind.

    Raises:
        ValueError: Another backbone, or ``style='caffe'``.
    """
    refuse_caffe_style(backbone, 'timm')
    first = [name for name in weights if name.startswith('backbone.layer1.0.downsample.')]
    pooled = any('.downsample.2.' in name for name in set(weights) - set(first))
    unpooled_first = pooled and not any('.downsample.2.' in name for name in first)
    return rename(weights, 'timm', FIRST_SHORTCUT * unpooled_first + RULES, LEFT)
