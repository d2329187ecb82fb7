"""Write the configs that pre-train and fine-tune a detector of your own.

    mcl-mm adapt my_detector.py                           you have no weights yet
    mcl-mm adapt my_detector.py --images my/images        the same, for your images
    mcl-mm adapt my_detector.py --weights mcl_r50.pth     you have weights
    mcl-mm adapt mmdet::retinanet/retinanet_r50_fpn_1x_coco.py --out-dir configs

NAME_finetune.py inherits from your config. It changes what keeps your detector from using the weights.
NAME_pretrain.py trains the backbone and pyramid of this very detector. You need it if there are no weights
of that network yet. Data sets, classes, pipelines, batch sizes and schedules stay yours. Both files say in
words what they change and why.

A config is Python code and runs when it is opened: open only configs that you trust.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        'config',
        help="config of an MMDetection detector: a path, a recipe's name, or a name such as 'mmdet::...'",
    )
    parser.add_argument(
        '--weights', help='file of weights to start from, written by `mcl-mm export`'
    )
    parser.add_argument(
        '--out-dir',
        help='where to write (default: beside the config; for a name, the current folder)',
    )
    parser.add_argument(
        '--images',
        metavar='DIR',
        help='folder of images without labels to pre-train on; their number chooses the recipe',
    )
    parser.add_argument(
        '--recipe',
        help='pre-training recipe to inherit from: a path, or the name of a shipped one, such as '
        'mcl_r50_small (default: mcl_r50_small for up to 50,000 --images, else mcl_r50_100e)',
    )
    parser.add_argument(
        '--pretrained-lr',
        type=float,
        metavar='FACTOR',
        help='learning rate of what starts pre-trained, as a factor of the rate (default: as the config)',
    )
    parser.add_argument(
        '--lr-decay',
        type=float,
        metavar='FACTOR',
        help='factor of the learning rate for each layer of the backbone towards the image (default: none)',
    )


def run(args: argparse.Namespace) -> None:
    """Write the configs and say what they change."""
    from mcl_mm.reading import building
    from mcl_mm.transfer.detector.write_configs import write_configs

    with building(args.config):
        written = write_configs(
            args.config,
            args.weights,
            args.out_dir,
            args.recipe,
            args.images,
            args.pretrained_lr,
            args.lr_decay,
        )
    print(written)
