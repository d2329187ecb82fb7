"""Weights in: the layout of the authors' released checkpoints."""

import re

from torch import Tensor

# Position in the authors' MLP (a Sequential; 2 is the ReLU) to our layer.
MLP = {'0': 'fc0', '1': 'bn0', '3': 'fc1', '4': 'bn1'}

# Pattern of an official name to ours. `backbone.*` repeats `encoder_q.0.*`.
RULES = [
    (r'encoder_q\.0\.(.+)', r'backbone.\1'),
    (r'encoder_q\.1\.(.+)', r'neck.fpn.\1'),
    (r'encoder_q\.2\.cls_convs\.(.+)', r'neck.projector.convs.\1'),
    (r'encoder_q\.2\.mlp\.(\d)\.(.+)', r'neck.projector.mlp.<\1>.\2'),
    (r'encoder_k\.0\.(.+)', r'target.backbone.\1'),
    (r'encoder_k\.1\.(.+)', r'target.neck.fpn.\1'),
    (r'encoder_k\.2\.cls_convs\.(.+)', r'target.neck.projector.convs.\1'),
    (r'encoder_k\.2\.mlp\.(\d)\.(.+)', r'target.neck.projector.mlp.<\1>.\2'),
    (r'head\.predictor\.(\d+)\.mlp\.(\d)\.(.+)', r'head.predictors.\1.<\2>.\3'),
    (r'(backbone\..+)', r'\1'),
]


def rename_official(name: str) -> str | None:
    """An official parameter or buffer name in our terms, or None for one that has no place.

    >>> rename_official('encoder_q.2.mlp.3.weight')
    'neck.projector.mlp.fc1.weight'
    """
    for pattern, replacement in RULES:
        match = re.fullmatch(pattern, name)
        if match:
            renamed = match.expand(replacement)
            return re.sub(r'<(\d)>', lambda m: MLP.get(m[1], m[1]), renamed)
    return None


def from_official(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' weights for an :class:`~mcl_mm.models.MCL`.

    Args:
        state_dict (dict[str, Tensor]): Of a released checkpoint.

    Returns:
        dict[str, Tensor]: The same tensors under our names; names without a place are left out.
    """
    renamed = {}
    for name, value in state_dict.items():
        ours = rename_official(name)
        if ours is not None:
            renamed.setdefault(ours, value)
    return renamed
