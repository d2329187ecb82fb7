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


def is_export(names: Collection[str]) -> bool:
    """Whether names are those that :func:`to_mmdet` gives, and no others."""
    parts = tuple(PREFIXES.values())
    return all(name.startswith(parts) for name in names) and all(
        any(name.startswith(part) for name in names) for part in parts
    )


def to_mmdet(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights a detector can use; drop the rest.

    Args:
        state_dict (dict[str, Tensor]): Of an :class:`~mcl_mm.models.MCL`.

    Returns:
        dict[str, Tensor]: ``backbone.*``, ``neck.*`` and ``roi_head.bbox_head.shared_convs.*``, on
        the CPU.

    Raises:
        ValueError: The weights are not those of an MCL model; says what is missing.
    """
    absent = [ours for ours in PREFIXES if not any(key.startswith(ours) for key in state_dict)]
    if absent:
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
