"""Turn a pre-training checkpoint into a small file of weights, for a detector or another library.

    mcl-mm export work_dirs/mcl_r50_100e/epoch_100.pth mcl_r50.pth
    mcl-mm adapt YOUR_DETECTOR.py --weights mcl_r50.pth      config that starts a detector from it
    mcl-mm export mcl_r50.pth mcl_r50.pkl --to detectron2

You can export an export again, so you need to keep only the small file. The command prints how many tensors
it wrote, what it left out and why, and how the file is loaded.
"""

import argparse
import os


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    from mcl_mm.transfer.export import FORMATS

    parser.add_argument('checkpoint', help='a checkpoint of a pre-training run, or an export')
    parser.add_argument(
        'out', help='file to write: .pth; .pkl for detectron2; .safetensors for safetensors'
    )
    parser.add_argument(
        '--to',
        choices=FORMATS,
        default='mmdet',
        help='library that reads the file (default: mmdet)',
    )


def run(args: argparse.Namespace) -> None:
    """Write the file and print what is in it."""
    from mcl_mm.transfer.export import FORMATS, export

    print(export(args.checkpoint, args.out, args.to).text())
    print(f'{args.out}: {os.path.getsize(args.out) / 2**20:.1f} MiB')
    print(FORMATS[args.to].usage.format(out=args.out))
