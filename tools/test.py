"""Evaluate a fine-tuned detector, or a classifier: runs the test part of an MMEngine config.

    python tools/test.py CONFIG CHECKPOINT
    python tools/test.py CONFIG CHECKPOINT --show-dir DIR     # and draw what was found in each image

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import os
import sys
from typing import Optional

import torch
from mmdet.visualization import DetLocalVisualizer
from mmengine.config import Config, DictAction
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

import mcl_mm  # noqa: F401  (checks the environment and registers the components)
from mcl_mm.datasets import LabelledImages
from mcl_mm.engine import check_classes
from mcl_mm.engine.cpu import adapt_to_cpu
from mcl_mm.registry import VISUALIZERS
from mcl_mm.transfer import check_whole, read_checkpoint


@VISUALIZERS.register_module()
class PNGVisualizer(DetLocalVisualizer):
    """MMDetection's, writing PNG whatever the format of the image drawn on."""

    def add_datasample(self, *args, out_file: Optional[str] = None, **kwargs) -> None:
        if out_file is not None:
            out_file = os.path.splitext(out_file)[0] + '.png'
        super().add_datasample(*args, out_file=out_file, **kwargs)


def draw_into(cfg: Config, folder: str) -> None:
    """Have MMDetection draw every tested image into a folder: labels left, detections right."""
    os.makedirs(folder, exist_ok=True)
    cfg.visualizer = dict(
        type='mcl_mm.PNGVisualizer', name='drawing', vis_backends=[dict(type='LocalVisBackend')]
    )
    cfg.default_hooks.visualization = dict(
        type='mmdet.DetVisualizationHook', draw=True, test_out_dir=os.path.abspath(folder)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help="a detector's config, or that of supervised pre-training")
    parser.add_argument('checkpoint', help='written by tools/train.py with that config')
    parser.add_argument('--work-dir', help='where the log goes')
    parser.add_argument(
        '--show-dir',
        help='draw into this folder, one PNG an image: its labels on the left, what scores above 0.3 on '
        'the right. Of several processes, the first draws its share',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings to override')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    try:
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        if cfg.get('test_dataloader') is None:
            raise ValueError(
                f'{args.config} has no test_dataloader. Pre-training without labels has nothing to '
                'test: fine-tune a detector from its export and test that'
            )
        name = os.path.splitext(os.path.basename(args.config))[0]
        cfg.work_dir = args.work_dir or cfg.get('work_dir') or os.path.join('work_dirs', name)
        cfg.launcher = args.launcher
        cfg.load_from = args.checkpoint
        if args.show_dir and 'visualization' not in cfg.default_hooks:
            raise ValueError(f'--show-dir draws detections, and {args.config} detects nothing')
        if args.show_dir:
            draw_into(cfg, args.show_dir)
        if not torch.cuda.is_available():
            adapt_to_cpu(cfg, args.cfg_options)
        runner = Runner.from_cfg(cfg)
        checkpoint = read_checkpoint(args.checkpoint)
        try:
            check_whole(runner.model, checkpoint['state_dict'])
        except ValueError as error:
            raise ValueError(
                f'{args.checkpoint} has not been trained with {args.config}: {error}'
            ) from error
        dataset = runner.test_loop.dataloader.dataset
        if isinstance(dataset, LabelledImages):
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            learnt = checkpoint['meta'].get('dataset_meta') or {}
            check_classes(dataset, model, learnt.get('classes'))
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
    runner.test()


if __name__ == '__main__':
    main()
