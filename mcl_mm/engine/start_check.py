"""Find out within seconds what would otherwise end, or spoil, a run of hours."""

import logging

from mmengine.dataset import default_collate
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mcl_mm.models import MCL
from mcl_mm.transfer import check_load, read_checkpoint


def check_start(runner: Runner) -> None:
    """Build the data, try one batch of it, and compare the weights to load with the model.

    Args:
        runner (Runner): About to train.

    Raises:
        OSError: The images or the weights cannot be read.
        ValueError: They do not fit each other, the model or the batch size.
    """
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    loader = runner.train_loop.dataloader
    if len(loader) == 0:
        raise ValueError(
            f'no batch to train on: {len(loader.dataset)} images do not fill one batch of '
            f'{loader.batch_size} on each of {runner.world_size} process(es). Lower '
            'train_dataloader.batch_size'
        )
    if isinstance(model, MCL):
        batch = default_collate([loader.dataset[0]] * loader.batch_size)
        model.data_preprocessor(batch, training=True)
    if runner._load_from and not runner._resume:
        report = check_load(model, read_checkpoint(runner._load_from)['state_dict'])
        print_log(f'Weights of {runner._load_from}:\n{report.table()}', 'current')
        if report.unexpected:
            print_log(
                f'{len(report.unexpected)} weights of the file have no place in this model and '
                f'stay unused, first {report.unexpected[0]}. configs/transfer has detectors that '
                'use them all',
                'current',
                level=logging.WARNING,
            )
