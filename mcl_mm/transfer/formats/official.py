"""Weights in: the layout of the authors' released checkpoints."""

import re
from collections.abc import Iterable
from typing import NamedTuple, Optional

import torch
from mmengine.logging import MessageHub
from torch import Tensor

import mcl_mm
from mcl_mm.transfer.checkpoint import read_checkpoint
from mcl_mm.transfer.export import refuse_itself, write
from mcl_mm.transfer.parts import count_table

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

# Parts that exist four times, under the same names but for their number.
NUMBERED = (
    'neck.fpn.lateral_convs',
    'neck.fpn.fpn_convs',
    'neck.projector.convs',
    'head.predictors',
)
# What their images look like to the network: ImageNet's statistics, range 0 to 255.
INPUT = dict(channel_order='RGB', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])

# Names no model is without.
LANDMARKS = (
    'backbone.conv1.weight',
    'neck.projector.mlp.fc0.weight',
    *(f'{part}.0.{layer}.weight' for part, layer in zip(NUMBERED, ('conv', 'conv', 'conv', 'fc0'))),
)


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


class Conversion(NamedTuple):
    """The outcome of converting a checkpoint.

    Attributes:
        state_dict (dict[str, Tensor]): The weights under our names.
        renamed (list[str]): Our names that differ from the official ones.
        left (list[str]): Official names without a place here.
        missing (list[str]): Our names that a whole model has and the file lacks, as far as its other
            names tell.
    """

    state_dict: dict[str, Tensor]
    renamed: list[str]
    left: list[str]
    missing: list[str]

    def table(self) -> str:
        """Counts per part, as text."""
        return count_table(
            dict(taken=self.state_dict, renamed=self.renamed, left=self.left, missing=self.missing)
        )


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
    return Conversion(converted, renamed, left, sorted(expected_names(converted) - set(converted)))


def convert_file(src: str, dst: str) -> Conversion:
    """Convert a released checkpoint into one that starts pre-training or is exported.

    Args:
        src (str): The authors' checkpoint.
        dst (str): The file to write, whole or not at all: PyTorch's layout, as runs resume from it.

    Returns:
        Conversion: What became of every name.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: See :func:`convert_official`; or ``dst`` is ``src``, or named as safetensors.
    """
    if not dst.endswith('.pth'):
        raise ValueError(
            f'the new file is a PyTorch checkpoint that runs can resume from: let its name end in .pth, '
            f'not {dst}. `mcl-mm export` makes safetensors of it'
        )
    refuse_itself(src, dst)
    converted = convert_official(read_checkpoint(src)['state_dict'])
    # Without optimiser and schedules only the weights can go on: a resumed run starts at 0.
    source = dict(mcl_mm_version=mcl_mm.__version__, source=f"authors' code: {src}")
    meta = dict(source, input=INPUT, epoch=0, iter=0)
    # MMEngine's Runner resumes from nothing without its record of logged scalars: an empty one.
    message_hub = MessageHub('converted').state_dict()
    write(dst, converted.state_dict, meta, message_hub=message_hub)
    return converted


def expected_names(names: Iterable[str]) -> set[str]:
    """The names a whole model has to have, going by those that are there.

    The target has the online network's names, and the four convs, levels or predictors of a part
    have each other's.
    """
    online = {name.removeprefix('target.') for name in names} | set(LANDMARKS)
    for part in NUMBERED:
        last = {
            name.split('.', part.count('.') + 2)[-1] for name in online if name.startswith(part)
        }
        online |= {f'{part}.{number}.{name}' for number in range(4) for name in last}
    return online | {f'target.{name}' for name in online if not name.startswith('head.')}


def only_backbone(names: Iterable[str]) -> bool:
    """Whether names are a ResNet's under ``backbone.`` and nothing else."""
    names = set(names)
    return 'backbone.conv1.weight' in names and all(n.startswith('backbone.') for n in names)


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
