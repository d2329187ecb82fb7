"""Weights out: the names and the pickle of Detectron2's model zoo."""

import pickle
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from .rename import NORM, Renamed, rename

BODY = 'backbone.bottom_up'


def numbered(pattern: str, replacement: str, count: int, first: int) -> list[tuple[str, str]]:
    """A rule for each of ``count`` parts: ours count from 0, Detectron2's from ``first``."""
    return [
        (pattern.replace('#', str(i)), replacement.replace('#', str(first + i)))
        for i in range(count)
    ]


def conv_and_norm(ours: str, theirs: str, count: int, first: int) -> list[tuple[str, str]]:
    """Rules for ConvModules, whose norm is a part of the conv in Detectron2."""
    return [
        *numbered(rf'{ours}\.#\.conv\.(\w+)', rf'{theirs}#.\1', count, first),
        *numbered(rf'{ours}\.#\.{NORM}\.(\w+)', rf'{theirs}#.norm.\1', count, first),
    ]


RULES = [
    (r'backbone\.conv1\.weight', rf'{BODY}.stem.conv1.weight'),
    (rf'backbone\.{NORM}1\.(\w+)', rf'{BODY}.stem.conv1.norm.\1'),
    # layer1 is res2
    *(
        rule
        for layer in range(1, 5)
        for block, res in [(rf'backbone\.layer{layer}\.(\d+)', rf'{BODY}.res{layer + 1}.\1')]
        for rule in (
            (rf'{block}\.conv(\d)\.weight', rf'{res}.conv\2.weight'),
            (rf'{block}\.{NORM}(\d)\.(\w+)', rf'{res}.conv\2.norm.\3'),
            (rf'{block}\.downsample\.0\.weight', rf'{res}.shortcut.weight'),
            (rf'{block}\.downsample\.1\.(\w+)', rf'{res}.shortcut.norm.\2'),
        )
    ),
    *conv_and_norm(r'neck\.lateral_convs', 'backbone.fpn_lateral', 4, 2),
    *conv_and_norm(r'neck\.fpn_convs', 'backbone.fpn_output', 4, 2),
    *conv_and_norm(r'roi_head\.bbox_head\.shared_convs', 'roi_heads.box_head.conv', 9, 1),
]
LEFT = [
    (
        r'.+\.num_batches_tracked',
        "Detectron2's frozen BN has no such counter, its BN does not use it",
    )
]


def to_detectron2(weights: dict[str, Tensor], backbone: dict) -> Renamed:
    """Name an export's weights as Detectron2's ``GeneralizedRCNN`` with ResNet and FPN does.

    A downsampling shortcut's pooling layer (V1d) has no place there and is refused with its stem.

    Args:
        weights (dict[str, Tensor]): An export, of a ResNet or ResNeXt.
        backbone (dict): Not used: what differs (``style='caffe'``) is ``STRIDE_IN_1X1`` there.

    Returns:
        Renamed: Everything that was exported but BN's counters.

    Raises:
        ValueError: Another backbone, or a deep stem.
    """
    return rename(weights, 'Detectron2', RULES, LEFT)


class ArrayPickler(pickle.Pickler):
    """Pickles arrays by names that every NumPy has; 1.x cannot read how 2.x does it."""

    def reducer_override(self, obj: Any) -> Any:
        """Arrays by their bytes; anything else as usual."""
        if type(obj) is np.ndarray:
            return np.ndarray, (obj.shape, obj.dtype.str, bytearray(obj.tobytes()))
        return NotImplemented


def as_array(value: Tensor) -> np.ndarray:
    """The tensor for NumPy, which has no bfloat16: such become float32, exactly."""
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


def write_pickle(file: BinaryIO, state_dict: dict[str, Tensor], meta: dict) -> None:
    """Write a file that Detectron2's ``DetectionCheckpointer`` loads: names to NumPy arrays.

    Args:
        file (BinaryIO): To write to. Detectron2 wants its name to end in ``.pkl``.
        state_dict (dict[str, Tensor]): With Detectron2's names.
        meta (dict): Goes along under ``meta``, which Detectron2 ignores.
    """
    content = dict(
        model={name: as_array(value) for name, value in state_dict.items()},
        __author__='mcl_mm',
        matching_heuristics=False,
        meta=meta,
    )
    ArrayPickler(file, protocol=4).dump(content)
