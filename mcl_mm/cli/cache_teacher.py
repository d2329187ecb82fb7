"""Write a teacher's embeddings of all images of a run, so that the run need not compute them.

    mcl-mm cache-teacher CONFIG --data DIR --out teacher.safetensors

CONFIG is one of distillation, such as those in configs/distill. The line that is printed at the end goes
into the config. The file belongs to these weights, images and their preparation: a run with others
refuses it.

A config is Python code and runs as such: open only those you trust.
"""

import argparse

from .settings import add_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('config', help='config of the run, or name of a recipe')
    parser.add_argument('--out', required=True, help='file to write, .safetensors')
    parser.add_argument('--data', help="folder of images (default: the config's)")
    parser.add_argument('--batch-size', type=int, default=64, help='default: 64')
    parser.add_argument(
        '--workers', type=int, default=2, help='processes that read images (default: 2)'
    )
    parser.add_argument('--device', help='default: cuda if there is one, else cpu')
    add_settings(parser)


def run(args: argparse.Namespace) -> None:
    """Embed, write and print."""
    import torch

    from mcl_mm.config import find_config
    from mcl_mm.datasets.teacher_cache import write_cache
    from mcl_mm.evaluation.teacher_embeddings import embed_by_teacher
    from mcl_mm.files import check_output
    from mcl_mm.reading import read_config

    if args.batch_size < 1 or args.workers < 0:
        raise ValueError('--batch-size must be at least 1, and --workers at least 0')
    if not args.out.endswith('.safetensors'):
        raise ValueError(f'the name of the file must end in .safetensors, not {args.out}')
    check_output(args.out)  # not after hours
    cfg = read_config(find_config(args.config), args.cfg_options)
    if args.data:
        cfg.train_dataloader.dataset.data_root = args.data
    device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    names, embeddings, about = embed_by_teacher(cfg, device, args.batch_size, args.workers)
    write_cache(args.out, names, embeddings, about)
    bad = int(embeddings.isnan().any(dim=1).sum())
    print(f'{args.out}: {len(names) - bad} images, {embeddings.shape[1]} numbers each')
    if bad:
        print(f'{bad} images cannot be read; training replaces them')
    print(f"in the config: dict(type='TeacherView', ..., cache={args.out!r})")
