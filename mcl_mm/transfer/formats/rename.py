"""Renaming weights by rules, with nothing lost silently."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

NORM = '(?:bn|gn)'  # how mmcv's layers call their normalisation


class Renamed(NamedTuple):
    """Weights under another library's names.

    Attributes:
        state_dict (dict[str, Tensor]): The weights.
        left (dict[str, str]): Names of those left behind, as they were, and why.
    """

    state_dict: dict[str, Tensor]
    left: dict[str, str]


def rename(
    weights: dict[str, Tensor],
    library: str,
    rules: Sequence[tuple[str, str]],
    left: Sequence[tuple[str, str]] = (),
) -> Renamed:
    """Give every tensor the name that the first rule says, or a reason why it is left behind.

    Args:
        weights (dict[str, Tensor]): With MMDetection's names, as an export has them.
        library (str): Whose names the new ones are, for the error.
        rules (Sequence[tuple[str, str]]): Patterns of whole names, and their replacements.
        left (Sequence[tuple[str, str]]): Patterns of what is left behind, and why. They come first.
            Defaults to nothing.

    Returns:
        Renamed: The weights, and what is not among them.

    Raises:
        ValueError: A tensor has no place in the library.
    """
    renamed, reasons = {}, {}
    for name, value in weights.items():
        reason = next((why for pattern, why in left if re.fullmatch(pattern, name)), None)
        matches = ((re.fullmatch(pattern, name), new) for pattern, new in rules)
        new_name = next((match.expand(new) for match, new in matches if match), None)
        if reason:
            reasons[name] = reason
        elif new_name:
            renamed[new_name] = value
        else:
            raise ValueError(
                f'{library} has no place for {name}. docs/formats.md lists the backbones it takes; '
                '--to mmdet and --to safetensors keep any, --to mmpretrain its own'
            )
    return Renamed(renamed, reasons)


def refuse_caffe_style(backbone: dict, library: str) -> None:
    """Refuse a ResNet that halves the resolution in a block's first conv, which no name shows.

    Args:
        backbone (dict): Config of the backbone; empty if it is not known.
        library (str): Which has the ``pytorch`` style only.

    Raises:
        ValueError: It is one.
    """
    if backbone.get('style') == 'caffe':
        raise ValueError(
            f"the backbone has style='caffe', stride 2 in a block's first conv; {library} has it in "
            'the 3x3 conv and would compute something else. --to mmdet, mmpretrain, detectron2 and '
            'safetensors keep it'
        )
