"""Pack a folder of images into tar shards with an index, for a disk that many share.

    mcl-mm pack DIR OUT             # copies the images into OUT/images-000000.tar, ...
    mcl-mm train CONFIG --data OUT  # the same images in the same order as with --data DIR

    mcl-mm pack SHARDS              # shards that you have: writes their index, mcl_mm_shards.npz

Files are copied byte for byte and keep their names. OUT appears when it is complete. Shards of your own are
uncompressed tar archives, side by side in one folder, as WebDataset reads them. Run the second form again
when a shard has changed.
"""

import argparse

import mcl_mm  # noqa: F401  (checks the environment)
from mcl_mm.datasets.pack import index, pack
from mcl_mm.datasets.scan import describe_passed_over


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``pack``."""
    parser.add_argument('dir', metavar='DIR', help='folder of images; without OUT, of shards')
    parser.add_argument('out', metavar='OUT', nargs='?', help='folder to make')
    parser.add_argument(
        '--shard-size', type=int, default=1000, metavar='MB', help='size of a shard (default: 1000)'
    )


def run(args: argparse.Namespace) -> None:
    """Pack or index, and say what was written."""
    if args.shard_size < 1:
        raise ValueError(f'--shard-size must be at least 1 MB, got {args.shard_size}')
    done = pack(args.dir, args.out, args.shard_size * 10**6) if args.out else index(args.dir)
    where = args.out or args.dir
    labels = f', {done.labels} with a label' if done.labels else ''
    print(f'{where}: {done.images} files in {done.shards} shards, {done.size / 1e9:.2f} GB{labels}')
    if +done.passed_over:
        print(f'passed over: {describe_passed_over(+done.passed_over)}')
