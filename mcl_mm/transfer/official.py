"""Weights in: the layout of the authors' released checkpoints."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from .check import part_of
from .identify import identify

# Position in the authors' MLPs (2 is the ReLU, which has no weights) to our layer.
MLP = {'0': 'fc0', '1': 'bn0', '3': 'fc1', '4': 'bn1'}

# Official names to ours; <0> stands for an MLP's layer. `backbone.*` repeats `encoder_q.0.*`.
RULES = [
    (r'(?:encoder_q\.0|backbone)\.(.+)', r'backbone.\1'),
    (r'encoder_q\.1\.(.+)', r'neck.fpn.\1'),
    (r'encoder_q\.2\.cls_convs\.(.+)', r'neck.projector.convs.\1'),
    (r'encoder_q\.2\.mlp\.([0134])\.(.+)', r'neck.projector.mlp.<\1>.\2'),
    (r'head\.predictor\.(\d+)\.mlp\.([0134])\.(.+)', r'head.predictors.\1.<\2>.\3'),
]

# Parts a whole checkpoint has, each with one name that stands for it.
LANDMARKS = {
    'backbone': 'backbone.conv1.weight',
    'neck.fpn.lateral_convs': 'neck.fpn.lateral_convs.0.conv.weight',
    'neck.fpn.fpn_convs': 'neck.fpn.fpn_convs.0.conv.weight',
    'neck.projector.convs': 'neck.projector.convs.0.conv.weight',
    'neck.projector.mlp': 'neck.projector.mlp.fc0.weight',
    'head.predictors': 'head.predictors.0.fc0.weight',
    'target': 'target.backbone.conv1.weight',
}


class Conversion(NamedTuple):
    """The outcome of converting a checkpoint.

    Attributes:
        state_dict (dict[str, Tensor]): The weights under our names.
        renamed (list[str]): Our names that differ from the official ones.
        left (list[str]): Official names without a place here.
        missing (list[str]): Parts of a whole model that the file lacks.
    """

    state_dict: dict[str, Tensor]
    renamed: list[str]
    left: list[str]
    missing: list[str]

    def table(self) -> str:
        """Counts per part, as text."""
        taken = Counter(map(part_of, self.state_dict))
        renamed = Counter(map(part_of, self.renamed))
        left = Counter(map(part_of, self.left))
        missing = Counter(self.missing)
        columns = dict(taken=taken, renamed=renamed, left=left, missing=missing)
        lines = [f'{"part":40}' + ''.join(f'{name:>10}' for name in columns)]
        for part in sorted(set().union(*columns.values())):
            lines.append(f'{part:40}' + ''.join(f'{c[part]:>10}' for c in columns.values()))
        return '\n'.join(lines)


def rename_official(name: str) -> Optional[str]:
    """An official parameter or buffer name in our terms, or None for one that has no place.

    >>> rename_official('encoder_k.2.mlp.3.weight')
    'target.neck.projector.mlp.fc1.weight'
    """
    if name.startswith('encoder_k.'):
        online = rename_official('encoder_q.' + name.removeprefix('encoder_k.'))
        return online and f'target.{online}'
    for pattern, replacement in RULES:
        match = re.fullmatch(pattern, name)
        if match:
            return re.sub(r'<(\d)>', lambda m: MLP[m[1]], match.expand(replacement))
    return None


def convert_official(state_dict: dict[str, Tensor]) -> Conversion:
    """Rename the authors' weights for an :class:`~mcl_mm.models.MCL`.

    Args:
        state_dict (dict[str, Tensor]): Of a released checkpoint, or ``backbone.*`` alone.

    Returns:
        Conversion: The weights, and what became of every name.

    Raises:
        ValueError: The weights are of something else, named by what it seems to be, or the two
            copies of the backbone differ.
    """
    kind = identify(state_dict)
    if kind != "the authors' MCL" and not only_backbone(state_dict):
        raise ValueError(
            f"not a checkpoint of the authors' MCL code: its names are those of {kind}"
        )
    converted, renamed, left = {}, [], []
    for name, value in state_dict.items():
        ours = rename_official(name)
        if ours is None:
            left.append(name)
        elif ours not in converted:
            converted[ours] = value
            renamed += [ours] * (ours != name)
        elif not torch.equal(converted[ours], value):
            raise ValueError(f'the two copies of {ours} in the checkpoint differ: it is damaged')
    missing = [part for part, name in LANDMARKS.items() if name not in converted]
    return Conversion(converted, renamed, left, missing)


def only_backbone(names: Iterable[str]) -> bool:
    """Whether names are a ResNet's under ``backbone.`` and nothing else."""
    names = set(names)
    return 'backbone.conv1.weight' in names and all(n.startswith('backbone.') for n in names)
