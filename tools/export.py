"""Turn a pre-training checkpoint, or an export, into a small file for another library.

    python tools/export.py work_dirs/mcl_r50_100e/epoch_100.pth mcl_r50.pth
    python tools/export.py mcl_r50.pth mcl_r50.pkl --to detectron2

The first goes into an MMDetection config as ``load_from = 'mcl_r50.pth'``. docs/formats.md says what the
other formats hold and how each library loads them. What stays behind is printed, with the reason.
"""

import argparse
import io
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Union

import torch
from safetensors.torch import save
from torch import Tensor

import mcl_mm
from mcl_mm.transfer import (
    Renamed,
    count_table,
    read_checkpoint,
    to_detectron2,
    to_mmdet,
    to_mmpretrain,
    to_timm,
    to_torchvision,
)
from mcl_mm.transfer.check import part_of
from mcl_mm.transfer.detectron2 import write_pickle
from mcl_mm.transfer.mmdet import PREFIXES, is_export
from mcl_mm.transfer.run_config import read_input, read_model_part


def keep_names(weights: dict[str, Tensor], backbone: dict) -> Renamed:
    """MMDetection's names, which an export has already."""
    return Renamed(weights, {})


# name: (new names, how the file's name ends, what to do with it)
FORMATS = {
    'mmdet': (keep_names, '.pth', "in the detector's config: load_from = '{out}'"),
    'mmpretrain': (
        to_mmpretrain,
        '.pth',
        "in the config: backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='{out}', "
        "prefix='backbone'))",
    ),
    'torchvision': (
        to_torchvision,
        '.pth',
        "detector.load_state_dict(torch.load('{out}')['state_dict'], strict=False)",
    ),
    'timm': (to_timm, '.pth', "model.load_state_dict(torch.load('{out}')['state_dict'], strict=False)"),
    'detectron2': (to_detectron2, '.pkl', 'MODEL.WEIGHTS: {out}, and the settings in docs/formats.md'),
    'safetensors': (keep_names, '.safetensors', "in the detector's config: load_from = '{out}'"),
}  # fmt: skip


def describe(meta: dict, path: str) -> dict:
    """Where weights come from and what they were trained on, for the file that carries them.

    Args:
        meta (dict): Of the pre-training checkpoint.
        path (str): The checkpoint.

    Returns:
        dict: ``mcl_mm_version``, ``source`` (str, file name), ``epoch`` and ``iteration`` (int), ``input``
        (dict of ``channel_order``, ``mean``, ``std``), ``backbone`` (dict, its config) and ``config`` (str,
        the run's); None for what the checkpoint does not say.
    """
    config = meta.get('cfg') or ''
    return dict(
        mcl_mm_version=mcl_mm.__version__,
        source=os.path.basename(path),
        epoch=meta.get('epoch'),
        iteration=meta.get('iter'),
        input=meta.get('input') or read_input(config),
        backbone=meta.get('backbone') or read_model_part(config, 'backbone'),
        config=config or None,
    )


def write(out: str, state_dict: dict[str, Tensor], meta: dict) -> None:
    """Write a file in the layout its name asks for; nothing unfinished ever has that name."""
    content = io.BytesIO()
    if out.endswith('.safetensors'):
        content.write(save(state_dict, dict(format='pt', meta=json.dumps(meta))))
    elif out.endswith('.pkl'):
        write_pickle(content, state_dict, meta)
    else:
        torch.save(dict(state_dict=state_dict, meta=meta), content)
    unfinished = Path(f'{out}.unfinished')
    try:
        unfinished.write_bytes(content.getbuffer())
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)


def input_text(given: Union[dict, str, None]) -> str:
    """How images have to be prepared, in words; an older export has the words already."""
    if not isinstance(given, dict):
        return given or 'unknown, the checkpoint does not say'
    return f'{given["channel_order"]}, mean {given["mean"]}, std {given["std"]}'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='written by tools/train.py, or an export')
    parser.add_argument(
        'out', help='where to write, ending in .pth (detectron2: .pkl, safetensors: .safetensors)'
    )
    parser.add_argument(
        '--to', choices=FORMATS, default='mmdet', help='whose names (default: mmdet)'
    )
    args = parser.parse_args()
    convert, suffix, usage = FORMATS[args.to]
    try:
        if not args.out.endswith(suffix):
            raise ValueError(
                f'the name of a file for {args.to} must end in {suffix}, not {args.out}'
            )
        if os.path.exists(args.out) and os.path.samefile(args.checkpoint, args.out):
            raise ValueError(f'{args.out} is the checkpoint itself: give the export another name')
        checkpoint = read_checkpoint(args.checkpoint)
        weights, meta, left = checkpoint['state_dict'], checkpoint['meta'], {}
        if not is_export(weights):
            carried = to_mmdet(weights)
            kept = tuple(PREFIXES)
            left = {n: 'only pre-training uses it' for n in weights if not n.startswith(kept)}
            weights, meta = carried, describe(meta, args.checkpoint)
        state_dict, without_place = convert(weights, meta.get('backbone') or {})
        os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
        write(args.out, state_dict, meta)
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')

    written = [name for name in weights if name not in without_place]
    left.update(without_place)
    print(count_table({'written': written, 'left behind': left}))
    reasons = defaultdict(list)
    for name, reason in left.items():
        reasons[reason].append(name)
    for reason, names in reasons.items():
        parts = sorted(set(map(part_of, names)))
        print(f'left behind, {reason}: {len(names)} tensors of {", ".join(parts)}')
    print(f'input: {input_text(meta.get("input"))}')
    print(f'{args.out}: {os.path.getsize(args.out) / 2**20:.1f} MiB')
    print(usage.format(out=args.out))


if __name__ == '__main__':
    main()
