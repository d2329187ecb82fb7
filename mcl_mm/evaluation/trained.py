"""A trained model, ready to be evaluated."""

from typing import Optional

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mcl_mm.datasets import labelled_sets
from mcl_mm.engine import QuietRunner, check_classes
from mcl_mm.engine.box_check import check_box_sizes
from mcl_mm.engine.cpu import adapt_to_cpu
from mcl_mm.engine.evaluated_images import check_evaluated_images
from mcl_mm.engine.label_check import check_top_k
from mcl_mm.files import check_folder
from mcl_mm.models.modules import unwrap
from mcl_mm.transfer import check_whole, read_checkpoint
from mcl_mm.transfer.detector.rules.data import check_class_numbers

from .png_visualizer import PNGVisualizer, name_pictures


def load_trained(cfg: Config, path: str, options: Optional[dict] = None) -> QuietRunner:
    """A run that will test, with all that would end it hours later found now; the log has what libraries say.

    Args:
        cfg (Config): Changed in place.
        path (str): A checkpoint that training with this config has written.
        options (dict, optional): Settings of the command line. Defaults to None.

    Raises:
        OSError: The images or the checkpoint cannot be read.
        ValueError: There is nothing to test; the checkpoint is not one of this model, or learnt other
            classes; the metric asks for more classes than there are.
    """
    if cfg.get('test_dataloader') is None:
        raise ValueError(
            f'{cfg.filename} has no test_dataloader. Pre-training without labels has nothing to '
            'test: fine-tune a detector from its export and test that'
        )
    check_folder(cfg.work_dir)
    cfg.load_from = path
    if not torch.cuda.is_available():
        adapt_to_cpu(cfg, options)
    runner = QuietRunner.from_cfg(cfg)
    try:
        check_tests(runner, path)
    finally:
        runner.end_quiet_start()
    return runner


def check_tests(runner: Runner, path: str) -> None:
    """Find out whether a run can test a checkpoint; see :func:`load_trained`."""
    checkpoint = read_checkpoint(path)
    try:
        check_whole(runner.model, checkpoint['state_dict'])
    except ValueError as error:
        raise ValueError(
            f'{path} has not been trained with {runner.cfg.filename}: {error}'
        ) from error
    model, learnt = unwrap(runner.model), checkpoint['meta'].get('dataset_meta') or {}
    check_class_numbers(runner.cfg, 'test_dataloader')
    check_box_sizes(runner.test_loop.dataloader.dataset, evaluates=True)
    check_evaluated_images(
        runner.test_loop.dataloader.dataset, runner.test_loop.evaluator, 'test_evaluator'
    )
    tested = labelled_sets(runner.test_loop.dataloader.dataset)
    for dataset in tested:
        check_classes(dataset, model, learnt.get('classes'))
    if tested:
        check_top_k(runner.test_loop.evaluator, model.head.num_classes, 'test_evaluator')
    if isinstance(runner.visualizer, PNGVisualizer):
        name_pictures(runner)
