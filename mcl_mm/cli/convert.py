"""Turn a checkpoint of the authors' MCL code, or weights of RGB images, into what a run here takes.

    mcl-mm convert SRC.pth DST.pth                     # the authors' checkpoint
    mcl-mm convert SRC.pth DST.pth --channels 4        # RGB weights for images of four channels

Without --channels SRC is a file that the authors released: a PyTorch or safetensors file. Its names begin
with encoder_q.0 (backbone), encoder_q.1 (pyramid), encoder_q.2 (projector), encoder_k and head.predictor.
docs/formats.md shows its layout. SRC may also be a file with the backbone alone (backbone.*); it has no
pyramid to export.

DST has two uses:

    load_from = 'DST.pth'                    in a config, or train --resume DST.pth: start a pre-training run
    mcl-mm export DST.pth mcl_r50.pth        make a file for detectors

A pre-training run counts from iteration 0, because DST has no state of the optimiser.

With --channels SRC is any file of weights: of torchvision, timm, MMPretrain, an export or a checkpoint of
this package. Its first convolution is made to take N channels. The first three keep the weights of red, green
and blue, further ones get their mean, and all are multiplied by 3 / N. DST has all other layers as SRC has
them.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument('src', help="the authors' checkpoint; with --channels any weights")
    parser.add_argument('dst', help='file to write, ending in .pth')
    parser.add_argument(
        '--channels', type=int, metavar='N', help='make RGB weights fit images of N channels'
    )


def run(args: argparse.Namespace) -> None:
    """Convert the checkpoint and print what was taken."""
    if args.channels is not None:
        from mcl_mm.transfer import first_conv

        names = first_conv.convert_file(args.src, args.dst, args.channels)
        print(f'{", ".join(names)}: from 3 channels to {args.channels}\nwrote {args.dst}')
        return
    from mcl_mm.transfer.formats.official import convert_file

    converted = convert_file(args.src, args.dst)
    print(converted.table())
    for title in ('left', 'missing'):
        names = getattr(converted, title)
        if names:
            print(f'{title}: {", ".join(names[:5])}{" ..." if len(names) > 5 else ""}')
    print(f'wrote {args.dst}')
