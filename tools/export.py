"""Turn a pre-training checkpoint into a small file for an MMDetection config.

    python tools/export.py work_dirs/mcl_r50_100e/epoch_100.pth mcl_r50.pth

and in the detector's config ``load_from = 'mcl_r50.pth'``.
"""

import argparse
import os
import sys

import torch

import mcl_mm
from mcl_mm.transfer import count_table, read_checkpoint, to_mmdet


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='written by tools/train.py')
    parser.add_argument('out', help='where to write, ending in .pth')
    args = parser.parse_args()
    try:
        checkpoint = read_checkpoint(args.checkpoint)
        state_dict = to_mmdet(checkpoint['state_dict'])
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
    source = checkpoint['meta']
    meta = dict(
        mcl_mm_version=mcl_mm.__version__,
        source=os.path.basename(args.checkpoint),
        epoch=source.get('epoch'),
        iteration=source.get('iter'),
        input='RGB, mean [123.675, 116.28, 103.53], std [58.395, 57.12, 57.375]',
        config=source.get('cfg'),
    )
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    torch.save(dict(state_dict=state_dict, meta=meta), args.out)
    print(count_table(dict(tensors=state_dict)))
    print(f'{args.out}: {os.path.getsize(args.out) / 2**20:.1f} MiB')


if __name__ == '__main__':
    main()
