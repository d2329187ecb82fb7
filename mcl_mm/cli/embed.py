"""Write embeddings of images, and which of them are nearly the same.

    mcl-mm embed CONFIG CHECKPOINT DIR --out embeddings.npz
    mcl-mm embed CONFIG CHECKPOINT DIR --out embeddings.npz --choose 200    # images to label

CHECKPOINT is one of a run with CONFIG, or an export of it. Writes embeddings.npz (or .parquet, by the
ending) with the names of the files, embeddings.duplicates.csv (similarity, file, file; most alike first)
and, with --choose, embeddings.chosen.txt: images spread over the set, a list as ann_file takes it.
Images that cannot be read are named and left out.

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import os
from pathlib import Path

from mcl_mm.datasets import UnlabelledImages

from .settings import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('config', help='config of the run, or name of a recipe')
    parser.add_argument('checkpoint', help='a checkpoint of the run, or an export')
    parser.add_argument('dir', metavar='DIR', help='folder of images')
    parser.add_argument(
        '--out', type=Path, required=True, help='file to write: .npz, or .parquet (needs pyarrow)'
    )
    parser.add_argument('--ann-file', default='', help='embed the files that this list names only')
    parser.add_argument(
        '--threshold', type=float, default=0.99, help='cosine of a near-duplicate (default: 0.99)'
    )
    parser.add_argument('--choose', type=int, metavar='N', help='choose N images to label')
    parser.add_argument('--side', type=int, help="of an image, pixels (default: the config's)")
    parser.add_argument('--batch-size', type=int, default=64, help='default: 64')
    parser.add_argument(
        '--workers', type=int, default=2, help='processes that read images (default: 2)'
    )
    parser.add_argument('--device', help='default: cuda if there is one, else cpu')
    add_settings(parser)


def run(args: argparse.Namespace) -> None:
    """Embed, compare, choose, write and print."""
    import torch

    from mcl_mm.channels import follow_channels
    from mcl_mm.config import find_config
    from mcl_mm.datasets.lists import write_list
    from mcl_mm.evaluation import embeddings as e
    from mcl_mm.evaluation.near_duplicates import near_duplicates, spread_out
    from mcl_mm.reading import building, read_config

    for name, low in (('choose', 1), ('side', 1), ('batch_size', 1), ('workers', 0)):
        value = getattr(args, name)
        if value is not None and value < low:
            raise ValueError(f'--{name.replace("_", "-")} must be at least {low}, got {value}')
    if not -1 <= args.threshold <= 1:
        raise ValueError(f'--threshold is a cosine and must lie in [-1, 1], got {args.threshold}')
    e.check_file(args.out)
    cfg = read_config(find_config(args.config), args.cfg_options)
    with building(args.config):
        follow_channels(cfg)
        embedder, ranges = e.load_embedder(cfg, args.checkpoint)
        side = args.side or e.side_of(cfg)
    embedder.to(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    ann_file = args.ann_file and os.path.abspath(args.ann_file)
    settings = dict(ann_file=ann_file, pipeline=[], channels=embedder.channels)
    images = UnlabelledImages(args.dir, **settings)
    if args.choose and args.choose > len(images):
        raise ValueError(f'--choose {args.choose} of {len(images)} images')
    found = e.embed(embedder, images, side, args.batch_size, args.workers, ranges)
    e.write_embeddings(args.out, found.names, found.vectors.cpu().numpy())
    print(f'{args.out}: {len(found.names)} images, {found.vectors.shape[1]} numbers each')
    if found.bad:
        print(f'cannot be read and left out ({len(found.bad)}): {", ".join(found.bad)}')
    pairs = near_duplicates(found.vectors, args.threshold)
    path = args.out.with_suffix('.duplicates.csv')
    e.write_pairs(path, found.names, pairs)
    most = f', the {len(pairs.places)} most alike are listed' * (pairs.found > len(pairs.places))
    print(f'{path}: pairs with a similarity of {args.threshold:g} or more: {pairs.found}{most}')
    if args.choose:
        path = args.out.with_suffix('.chosen.txt')
        chosen = spread_out(found.vectors, min(args.choose, len(found.names)))
        write_list(path, (found.names[place] for place in chosen))
        print(f'{path}: {len(chosen)} images to label')
