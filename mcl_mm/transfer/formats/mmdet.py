"""Weights out: from a pre-training checkpoint to an MMDetection detector."""

from collections.abc import Collection

import torch
from torch import Tensor

# Where each part of the pre-training model stands in a detector, first match wins. The projector's
# MLP, the predictors and the target are not carried.
PREFIXES = {
    'backbone.': 'backbone.',
    'neck.fpn.': 'neck.',
    'neck.projector.convs.': 'roi_head.bbox_head.shared_convs.',
}


# What only a detector has.
DETECTOR = ('neck.lateral_convs.', 'rpn_head.', 'roi_head.', 'bbox_head.')


def is_export(names: Collection[str]) -> bool:
    """Whether names are those that :func:`to_mmdet` gives, and no others."""
    found = {p for p in PREFIXES.values() if any(name.startswith(p) for name in names)}
    known = all(name.startswith(tuple(PREFIXES.values())) for name in names)
    return known and found in ({'backbone.'}, set(PREFIXES.values()))


def to_mmdet(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights a detector can use; drop the rest.

    Args:
        state_dict (dict[str, Tensor]): Of an :class:`~mcl_mm.models.MCL`, or of a method of mmpretrain
            that trains a backbone alone.

    Returns:
        dict[str, Tensor]: ``backbone.*``, ``neck.*`` and ``roi_head.bbox_head.shared_convs.*``, of a
        method of mmpretrain ``backbone.*``, on the CPU.

    Raises:
        ValueError: The weights are neither's; says what is missing.
    """
    absent = [ours for ours in PREFIXES if not any(key.startswith(ours) for key in state_dict)]
    alone = absent == list(PREFIXES)[1:] and not any(k.startswith(DETECTOR) for k in state_dict)
    if absent and not alone:
        some = ', '.join(sorted({key.split('.')[0] for key in state_dict})[:8])
        raise ValueError(
            f'not an mcl_mm pre-training checkpoint: no {", ".join(absent)}* in it. It holds: {some}'
        )
    return {
        theirs + key.removeprefix(ours): value.detach()
        .cpu()
        .clone(memory_format=torch.contiguous_format)
        for key, value in state_dict.items()
        for ours, theirs in PREFIXES.items()
        if key.startswith(ours)
    }


def from_mmdet(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of the pre-training model for an export's: the way back of :func:`to_mmdet`.

    Args:
        weights (dict[str, Tensor]): An export.

    Returns:
        dict[str, Tensor]: ``backbone.*``, ``neck.fpn.*`` and ``neck.projector.convs.*``.
    """
    return {
        ours + name.removeprefix(theirs): value
        for name, value in weights.items()
        for ours, theirs in PREFIXES.items()
        if name.startswith(theirs)
    }
