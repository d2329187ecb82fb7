"""Weights out: torchvision's names, of a Mask R-CNN and of the ResNet in it."""

from torch import Tensor

from .rename import NORM, Renamed, refuse_caffe_style, rename


def resnet_rules(prefix: str) -> list[tuple[str, str]]:
    """The names of torchvision's ResNets and ResNeXts behind a prefix; timm has the same."""
    return [
        (r'backbone\.conv1\.weight', rf'{prefix}conv1.weight'),
        (rf'backbone\.{NORM}1\.(\w+)', rf'{prefix}bn1.\1'),
        (r'backbone\.(layer\d\.\d+\.conv\d)\.weight', rf'{prefix}\1.weight'),
        (rf'backbone\.(layer\d\.\d+)\.{NORM}(\d)\.(\w+)', rf'{prefix}\1.bn\2.\3'),
        (r'backbone\.(layer\d\.\d+\.downsample\.[01]\.\w+)', rf'{prefix}\1'),
    ]


RULES = [
    *resnet_rules('backbone.body.'),
    (r'neck\.lateral_convs\.(\d)\.conv\.(\w+)', r'backbone.fpn.inner_blocks.\1.0.\2'),
    (rf'neck\.lateral_convs\.(\d)\.{NORM}\.(\w+)', r'backbone.fpn.inner_blocks.\1.1.\2'),
    (r'neck\.fpn_convs\.(\d)\.conv\.(\w+)', r'backbone.fpn.layer_blocks.\1.0.\2'),
    (rf'neck\.fpn_convs\.(\d)\.{NORM}\.(\w+)', r'backbone.fpn.layer_blocks.\1.1.\2'),
    (r'roi_head\.bbox_head\.shared_convs\.(\d)\.conv\.(\w+)', r'roi_heads.box_head.\1.0.\2'),
    (rf'roi_head\.bbox_head\.shared_convs\.(\d)\.{NORM}\.(\w+)', r'roi_heads.box_head.\1.1.\2'),
]


def to_torchvision(weights: dict[str, Tensor], backbone: dict) -> Renamed:
    """Name an export's weights as torchvision's detectors do.

    ``backbone.body.*`` is a plain ResNet, ``backbone.fpn.*`` a pyramid with norm layers and
    ``roi_heads.box_head.*`` the convs of a ``FastRCNNConvFCHead``. ``maskrcnn_resnet50_fpn_v2`` has
    all three.

    Args:
        weights (dict[str, Tensor]): An export, of a ResNet or ResNeXt.
        backbone (dict): Config of the backbone; empty if it is not known.

    Returns:
        Renamed: Everything that was exported.

    Raises:
        ValueError: Another backbone, a deep stem or ``style='caffe'``.
    """
    refuse_caffe_style(backbone, 'torchvision')
    return rename(weights, 'torchvision', RULES)
