"""A run's first screen: what it is going to do, in ten lines."""

import contextlib
import importlib
import importlib.util
import time
from collections.abc import Iterator
from typing import Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from mcl_mm.channels import MEAN
from mcl_mm.config import find_parts, type_name
from mcl_mm.datasets.depth import describe_range
from mcl_mm.models import Teacher
from mcl_mm.models.modules import unwrap
from mcl_mm.registry import HOOKS

from .cpu import precision
from .operation_counter import operation_counter
from .quiet_start import QuietRunner
from .runner_access import accumulated, resumes, start_file
from .sync_bn import sharing
from .value_range_hook import channels_of, ranges_of


@HOOKS.register_module()
class StartSummaryHook(Hook):
    """Print what a run is going to do.

    Before the first iteration comes the summary, after it what an image costs, and after a minute how long
    the run takes.
    """

    priority = 'VERY_HIGH'  # before probes, which may take minutes
    MEASURED = 60.0  # seconds

    def __init__(self) -> None:
        self.counter = operation_counter()
        self.counting = contextlib.ExitStack()
        self.begin: Optional[float] = None

    def before_train(self, runner: Runner) -> None:
        """Print the summary."""
        if isinstance(runner, QuietRunner):
            runner.end_quiet_start()
        lines = '\n'.join(f'  {name:10} {text}' for name, text in summary(runner))
        runner.logger.info(f'This run:\n{lines}')

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Count the first iteration; measure time from the second one on, as the first waits for workers."""
        if not hasattr(self, 'first'):
            self.first = runner.iter
            if not runner.cfg.get('compile'):
                self.counting.enter_context(self.counter)
        elif runner.iter == self.first + 1:
            self.begin = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, *_, **__) -> None:
        """Say once what an image costs, and once how long it will take."""
        measured = runner.iter - self.first
        if measured == 0:
            self.counting.close()
            self.say_cost(runner)
        if measured < 1 or self.begin is None:
            return
        seconds = time.monotonic() - self.begin
        left = runner.max_iters - runner.iter - 1
        if seconds < self.MEASURED:
            return
        if left:
            hours = left * seconds / measured / 3600
            runner.logger.info(f'At the speed of the first minute: {duration(hours)} to go.')
        self.begin = None

    def at_end(self, runner: Runner) -> None:
        """End the count where the first iteration has failed."""
        self.counting.close()

    def say_cost(self, runner: Runner) -> None:
        """Print the multiply-adds of the first iteration."""
        operations = self.counter.get_total_flops()
        if operations:
            images = batch_size(runner.train_dataloader)
            cost = f'{operations / 2 / images / 1e9:.3g} G multiply-adds an image'
            runner.logger.info(f'Cost, counted in this iteration: {cost}, forward and backward.')


def summary(runner: Runner) -> Iterator[tuple[str, str]]:
    """Names and texts of what there is to know of a run."""
    model, loader = unwrap(runner.model), runner.train_dataloader
    root = getattr(loader.dataset, 'data_root', None)
    yield 'data', f'{len(loader.dataset):,} images' + (f' in {root}' if root else '')
    channels, ranges = channels_of(loader.dataset), ranges_of(loader.dataset)
    if channels is not None:
        found = ''.join(f'; values from {describe_range(r)}' for r in ranges)
        preprocessor = runner.cfg.model.get('data_preprocessor') or {}
        if list(preprocessor.get('mean') or ()) == [MEAN] * channels:
            found += '; mean and deviation not measured (check-images --channels)'
        yield 'channels', f'{channels}, in the order of the files{found}'
    for low, high in ranges if channels is None else ():
        yield 'values', f'{low:g} becomes black, {high:g} becomes white'
    yield 'network', describe_network(model)
    if isinstance(getattr(model, 'teacher', None), Teacher):
        yield 'teacher', describe_teacher(model.teacher)
    side = next(view_sides(runner.cfg), None)
    images = batch_size(loader)
    update = images * runner.world_size * accumulated(runner.optim_wrapper)
    parts = [f'{images} images', f'{runner.world_size} process(es)']
    if accumulated(runner.optim_wrapper) > 1:
        parts.append(f'{accumulated(runner.optim_wrapper)} accumulated')
    sheets = f', sheets of {side} pixels' if side else ''
    yield 'batch', f'{" x ".join(parts)} = {update} an update{sheets}'
    together = sharing(model)
    if together:
        ranks = f'{together} of {runner.world_size} process(es)'
        yield 'batch norm', f'statistics of {images * together} images, from {ranks}'
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    epochs = f'{runner.max_epochs} epochs, ' if by_epoch else ''
    done = f', {runner.iter} of them done' if runner.iter else ''
    yield 'length', f'{epochs}{runner.max_iters:,} iterations{done}'
    yield 'begins', describe_start(runner)
    optimizer = runner.optim_wrapper.optimizer
    rate = max(group.get('initial_lr', group['lr']) for group in optimizer.param_groups)
    yield 'optimiser', f'{type(optimizer).__name__}, learning rate {rate:g}'
    yield 'precision', f'{precision(runner.optim_wrapper)}, on {describe_device()}'
    yield 'operators', describe_operators()
    yield 'log', runner.logger.log_file or runner.log_dir


def batch_size(loader: DataLoader) -> int:
    """Images a process sees at once."""
    return loader.batch_size or loader.batch_sampler.batch_size  # detectors batch by aspect ratio


def describe_network(model: nn.Module) -> str:
    """Classes of a model and its parts, and its size."""
    parts = [
        type(part).__name__ for name, part in model.named_children() if name in ('backbone', 'neck')
    ]
    learn = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f'{type(model).__name__} ({", ".join(parts)}), {learn / 1e6:.3g} M parameters that learn'


def describe_teacher(teacher: Teacher) -> str:
    """Class of a teacher, its size, and how it sees images."""
    size = sum(p.numel() for p in teacher.backbone.parameters()) / 1e6
    name = type(teacher.backbone).__name__
    return f'{name}, {size:.3g} M frozen parameters, {teacher.size} pixels, {teacher.dtype}'


def describe_start(runner: Runner) -> str:
    """Where the weights come from."""
    path = start_file(runner)
    if resumes(runner) and path:
        return f'where {path} ends'
    return f'from {path}' if path else 'as the config initialises it'


def describe_device() -> str:
    """What computes."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f'CPU, {torch.get_num_threads()} thread(s)'


def describe_operators() -> str:
    """Whose operators detectors use."""
    if importlib.util.find_spec('mcl_mm.operators') is None:
        return "mmcv's, compiled"
    return importlib.import_module('mcl_mm.operators').describe().removeprefix('operators: ')


def view_sides(cfg: dict) -> Iterator[int]:
    """Sides of full views in the training pipeline of pre-training, in pixels, as the config says."""
    pipeline = cfg.get('train_dataloader', {}).get('dataset', {}).get('pipeline')
    keys = dict(NativeViews='side', RandomResizedCrop='scale')
    for part in find_parts(pipeline, *keys):
        key = keys[type_name(part)]
        if isinstance(part.get(key), int):
            yield part[key]


def duration(hours: float) -> str:
    """A time in the unit that suits it."""
    return f'{hours:.1f} hours' if hours >= 1.5 else f'{max(1, round(hours * 60))} minute(s)'
