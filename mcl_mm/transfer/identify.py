"""Naming a file of weights by the names in it."""

import re
from collections.abc import Iterable

# The first kind whose every pattern matches the beginning of some name.
KINDS = [
    ("the authors' MCL", [r'encoder_q\.0\.', r'encoder_q\.2\.cls_convs\.']),
    ('mcl_mm pre-training', [r'neck\.projector\.', r'head\.predictors\.', r'target\.']),
    ('mcl_mm export or MMDetection detector', [r'backbone\.', r'(neck|roi_head|bbox_head)\.']),
    ('MoCo', [r'encoder_q\.(conv1|layer1|fc)\b']),
    ('MoCo v3', [r'base_encoder\.']),
    ('Detectron2', [r'(backbone\.bottom_up\.)?(stem\.conv1|res2\.0)\b']),
    ('OpenMMLab backbone or classifier', [r'backbone\.']),
    ('torchvision or timm ResNet', [r'conv1\.', r'layer1\.0\.conv1\.']),
    ('vision transformer', [r'(patch_embed|blocks\.0|cls_token)\b']),
]


def identify(names: Iterable[str]) -> str:
    """What kind of model weights seem to be of.

    Args:
        names (Iterable[str]): Their names.

    Returns:
        str: One of ``KINDS``, or ``'unknown'``.
    """
    names = list(names)
    for kind, patterns in KINDS:
        if all(any(re.match(pattern, name) for name in names) for pattern in patterns):
            return kind
    return 'unknown'
