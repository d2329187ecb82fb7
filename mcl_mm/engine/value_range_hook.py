"""One range of values from the first iteration to the detector."""

import logging
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mcl_mm.datasets import inner_sets
from mcl_mm.registry import HOOKS


@HOOKS.register_module()
class ValueRangeHook(Hook):
    """Keep the value range of images with more than 8 bits, from run to run.

    Checkpoints get it as ``meta['value_ranges']``: a list of ``[low, high]``, empty for 8-bit images. Of a
    set with channels an entry has a pair for each, and ``meta['channels']`` says how many.
    A run that goes on, a validation and a test take it from there, or from the training images, unless
    their data set has one of its own in the config.

    Raises:
        ValueError: Parts of the training set have been measured, and differ.
    """

    priority = 'VERY_HIGH'  # before the start's summary tells the range

    def __init__(self) -> None:
        self.saved = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember what a checkpoint was trained with."""
        self.saved = checkpoint.get('meta', {}).get('value_ranges') or []

    def before_train(self, runner: Runner) -> None:
        """Let all data sets of the run have one range."""
        images = runner.train_dataloader.dataset
        if runner.iter > 0:  # it goes on from a checkpoint
            use_range(images, self.saved)
        ranges = ranges_of(images)
        if len(ranges) > 1 and any(getattr(p, 'range_measured', 0) for p in inner_sets(images)):
            raise ValueError(
                f'parts of the training set have value ranges of their own, {ranges}: give each part '
                f'a value_range=[low, high], such as {hull(ranges)}'
            )
        if runner.val_loop is not None:
            use_range(runner.val_loop.dataloader.dataset, ranges)

    def before_test(self, runner: Runner) -> None:
        """Test with what was trained with."""
        use_range(runner.test_loop.dataloader.dataset, self.saved)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the range with the weights."""
        images = runner.train_dataloader.dataset
        checkpoint['meta']['value_ranges'] = ranges_of(images)
        if channels_of(images) is not None:
            checkpoint['meta']['channels'] = channels_of(images)


def ranges_of(dataset: Any) -> list[list[float]]:
    """The value ranges of a data set's parts, each once."""
    ranges = (getattr(part, 'value_range', None) for part in inner_sets(dataset))
    return [list(found) for found in dict.fromkeys(filter(None, ranges))]


def channels_of(dataset: Any) -> Optional[int]:
    """``channels`` of a data set, or of the first of its parts that has it; None for pictures."""
    return next(filter(None, (getattr(p, 'channels', None) for p in inner_sets(dataset))), None)


def hull(ranges: list[list]) -> list:
    """The range that holds all of several, of each channel if there are channels."""
    if isinstance(ranges[0][0], (list, tuple)):
        return [hull(list(channel)) for channel in zip(*ranges)]
    return [min(low for low, _ in ranges), max(high for _, high in ranges)]


def use_range(dataset: Any, ranges: list[list[float]]) -> None:
    """Give the parts of a data set that were measured a range that was used before.

    Args:
        dataset (Any): The data set, its workers not started.
        ranges (list[list[float]]): Of :func:`ranges_of`; if it is not one, nothing is done.
    """
    if len(ranges) != 1:
        return
    # JSON, which safetensors keep it in, has no tuples.
    wanted = tuple(tuple(x) if isinstance(x, list) else x for x in ranges[0])
    for part in inner_sets(dataset):
        before: Optional[tuple] = getattr(part, 'value_range', None)
        if getattr(part, 'range_measured', False) and before != wanted:
            part.value_range = wanted
            text = (
                f'{part.data_root}: value range {list(wanted)} of the training, not {list(before)}'
            )
            print_log(text, 'current', logging.WARNING)
