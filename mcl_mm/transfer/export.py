"""Weights out: from a pre-training checkpoint to a small file for a detector or another library."""

import io
import json
import os
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple, Union

import torch
from safetensors.torch import save
from torch import Tensor

import mcl_mm
from mcl_mm.files import check_output, write_bytes

from .checkpoint import read_checkpoint
from .formats.detectron2 import to_detectron2, write_pickle
from .formats.mmdet import PREFIXES, is_export, to_mmdet
from .formats.mmpretrain import to_mmpretrain
from .formats.rename import Renamed
from .formats.timm import to_timm
from .formats.torchvision import to_torchvision
from .parts import count_table, part_of
from .run_config import read_input, read_model_part


class Format(NamedTuple):
    """A kind of file that :func:`export` writes.

    Attributes:
        convert (Callable): Takes an export's weights and the config of the backbone, gives them in the new
            names.
        suffix (str): How the file's name ends.
        usage (str): The line or lines that load it; ``{out}`` stands for the file.
    """

    convert: Callable[[dict[str, Tensor], dict], Renamed]
    suffix: str
    usage: str


def keep_names(weights: dict[str, Tensor], backbone: dict) -> Renamed:
    """MMDetection's names, which an export has already."""
    return Renamed(weights, {})


# By its names alone the file would go into wrong levels of a pyramid that begins at P3.
INTO_A_DETECTOR = (
    "the detector's config: mcl-mm adapt YOUR_DETECTOR.py --weights {out}\n"
    "or by hand: load_from = '{out}'; custom_imports = dict(imports=['mcl_mm']); "
    "custom_hooks = [dict(type='mcl_mm.TransferHook')]"
)
FORMATS = {
    'mmdet': Format(keep_names, '.pth', INTO_A_DETECTOR),
    'mmpretrain': Format(
        to_mmpretrain,
        '.pth',
        "in the config: model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='{out}', "
        "prefix='backbone')))",
    ),
    'torchvision': Format(
        to_torchvision,
        '.pth',
        "detector.load_state_dict(torch.load('{out}')['state_dict'], strict=False)",
    ),
    'timm': Format(
        to_timm, '.pth', "model.load_state_dict(torch.load('{out}')['state_dict'], strict=False)"
    ),
    'detectron2': Format(
        to_detectron2, '.pkl', 'MODEL.WEIGHTS: {out}, and the settings in docs/formats.md'
    ),
    'safetensors': Format(keep_names, '.safetensors', INTO_A_DETECTOR),
}


class Export(NamedTuple):
    """What :func:`export` wrote.

    Attributes:
        written (list[str]): Names, as an export has them.
        left (dict[str, str]): Names left behind, and why.
        meta (dict): What the file says about its weights.
    """

    written: list[str]
    left: dict[str, str]
    meta: dict

    def text(self) -> str:
        """For the terminal: counts, what is left behind and why, and how images have to look."""
        lines = [count_table({'written': self.written, 'left behind': self.left})]
        reasons = defaultdict(list)
        for name, reason in self.left.items():
            reasons[reason].append(name)
        for reason, names in reasons.items():
            parts = sorted(set(map(part_of, names)))
            lines.append(f'left behind, {reason}: {len(names)} tensors of {", ".join(parts)}')
        return '\n'.join([*lines, f'input: {input_text(self.meta.get("input"))}'])


def export(path: str, out: str, name: str = 'mmdet') -> Export:
    """Write the weights of a pre-training checkpoint, or of an export, for another library.

    Args:
        path (str): The checkpoint, or an export.
        out (str): The file to write; whole or not at all.
        name (str): Whose names, of ``FORMATS``. Defaults to ``'mmdet'``.

    Returns:
        Export: What was written.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: The weights are others, have no place there, or the file's name does not suit.
    """
    kind = FORMATS[name]
    if not out.endswith(kind.suffix):
        raise ValueError(f'the name of a file for {name} must end in {kind.suffix}, not {out}')
    refuse_itself(path, out)
    checkpoint = read_checkpoint(path)
    weights, meta, left = checkpoint['state_dict'], checkpoint['meta'], {}
    if not is_export(weights):
        carried = to_mmdet(weights)
        kept = tuple(PREFIXES)
        left = {n: 'only pre-training uses it' for n in weights if not n.startswith(kept)}
        weights, meta = carried, describe(meta, path)
    state_dict, without_place = kind.convert(weights, meta.get('backbone') or {})
    write(out, state_dict, meta)
    written = [name for name in weights if name not in without_place]
    return Export(written, {**left, **without_place}, meta)


def refuse_itself(path: str, out: str) -> None:
    """Refuse an output that is the file that is read, ValueError, or cannot be written, OSError."""
    check_output(out)
    if os.path.exists(out) and os.path.exists(path) and os.path.samefile(path, out):
        raise ValueError(f'{out} is the checkpoint itself: give the new file another name')


def describe(meta: dict, path: str) -> dict:
    """Where weights come from and what they were trained on, for the file that carries them.

    Args:
        meta (dict): Of the pre-training checkpoint.
        path (str): The checkpoint.

    Returns:
        dict: ``mcl_mm_version``, ``source`` (str, file name), ``epoch`` and ``iteration`` (int), ``input``
        (dict of ``channel_order``, ``mean``, ``std`` and, if the run kept them, ``value_ranges``; of a
        run with channels also ``channels``, and ``channel_order`` 'BGR': as the loader gives them),
        ``backbone`` (dict, its config) and ``config`` (str, the run's); None for what the checkpoint does
        not say.
    """
    config = meta.get('cfg') or ''
    images = meta.get('input') or read_input(config)
    if isinstance(images, dict):
        kept = {key: meta[key] for key in ('value_ranges', 'channels') if key in meta}
        images = dict(images, **kept)
    return dict(
        mcl_mm_version=mcl_mm.__version__,
        source=os.path.basename(path),
        epoch=meta.get('epoch'),
        iteration=meta.get('iter'),
        input=images,
        backbone=meta.get('backbone') or read_model_part(config, 'backbone'),
        config=config or None,
    )


def write(out: str, state_dict: dict[str, Tensor], meta: dict, **more: object) -> None:
    """Write a file in the layout its name asks for, whole or not at all.

    Args:
        out (str): The file. ``.safetensors`` and ``.pkl`` (Detectron2's) are told by the name; others are
            PyTorch's.
        state_dict (dict[str, Tensor]): The weights.
        meta (dict): What the file says about them.
        more: Further entries, for PyTorch's layout.

    Raises:
        OSError: It cannot be written. A file that was there before is as it was.
        ValueError: The layout has no place for further entries.
    """
    if more and out.endswith(('.safetensors', '.pkl')):
        raise ValueError(
            f'{out} would hold weights alone, and a run also needs {", ".join(more)}: let its name end '
            'in .pth'
        )
    content = io.BytesIO()
    if out.endswith('.safetensors'):
        content.write(save(state_dict, dict(format='pt', meta=json.dumps(meta))))
    elif out.endswith('.pkl'):
        write_pickle(content, state_dict, meta)
    else:
        torch.save(dict(state_dict=state_dict, meta=meta, **more), content)
    write_bytes(out, content.getbuffer())


def input_text(given: Union[dict, str, None]) -> str:
    """How images have to be prepared, in words; an older export has the words already."""
    if not isinstance(given, dict):
        return given or 'unknown, the checkpoint does not say'
    from mcl_mm.datasets.depth import (
        describe_range,
    )  # with libraries that `import` need not wait for

    order, channels = given['channel_order'], given.get('channels')
    if channels:
        order = f'{channels} channels in the order of the files'
    text = f'{order}, mean {given["mean"]}, std {given["std"]}'
    ranges = ' or '.join(map(describe_range, given.get('value_ranges') or ()))
    return f'{text}, values of more than 8 bits from {ranges}' if ranges else text
