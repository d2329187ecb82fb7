"""Turn a checkpoint of the authors' MCL code into one of this package.

    python tools/convert_official.py SRC.pth DST.pth       (SRC may be .safetensors too)

DST starts a pre-training run (``load_from`` or ``--resume DST.pth``; both count from iteration 0, for the
optimiser's state is not taken along) and goes through ``tools/export.py`` to a detector. A file with
nothing but the backbone is taken too; it starts pre-training, but has no pyramid to export.
"""

import argparse
import os
import sys

import torch
from mmengine.logging import MessageHub

import mcl_mm
from mcl_mm.transfer import read_checkpoint
from mcl_mm.transfer.official import INPUT, convert_official


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('src', help="the authors' checkpoint")
    parser.add_argument('dst', help='where to write')
    args = parser.parse_args()
    try:
        checkpoint = read_checkpoint(args.src)
        converted = convert_official(checkpoint['state_dict'])
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
    meta = dict(
        mcl_mm_version=mcl_mm.__version__,
        source=f"authors' code: {args.src}",
        input=INPUT,
        # Without optimiser and schedules only the weights can go on: a resumed run starts at 0.
        epoch=0,
        iter=0,
    )
    os.makedirs(os.path.dirname(os.path.abspath(args.dst)), exist_ok=True)
    # MMEngine's Runner resumes from nothing without its record of logged scalars: an empty one.
    message_hub = MessageHub('converted').state_dict()
    torch.save(dict(state_dict=converted.state_dict, meta=meta, message_hub=message_hub), args.dst)
    print(converted.table())
    for title in ('left', 'missing'):
        names = getattr(converted, title)
        if names:
            print(f'{title}: {", ".join(names[:5])}{" ..." if len(names) > 5 else ""}')
    print(f'wrote {args.dst}')


if __name__ == '__main__':
    main()
