"""A run's first screen: what it is going to do, in ten lines; the rest is in the log file."""

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Optional, TextIO

import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mcl_mm.channels import MEAN
from mcl_mm.config import find_parts, type_name
from mcl_mm.datasets.depth import describe_range
from mcl_mm.models import Teacher
from mcl_mm.models.modules import unwrap
from mcl_mm.registry import HOOKS

from .cpu import precision
from .runner_access import accumulated, resumes, start_file
from .sync_bn import group_batch_norm, sharing
from .value_range_hook import channels_of, ranges_of

# Warnings of the libraries about what is as it should be.
NOISE = (
    'requires_grad=False',
    'is duplicate. It is skipped',
    'The prefix is not set in metric class',
    'FileClient',
    'HardDiskBackend',
    'Checkpoints will be saved to',
    'Exp name: ',
    'value of random seed in the checkpoint',
    'Advance dataloader',
    'dataset metainfo from the resumed checkpoint',
    'Failed to search registry with scope',
    'has no `metainfo`',
    'has no metainfo',
    '`Visualizer` backend is not initialized',
)


class QuietStart(logging.Filter):
    """What passes to the screen: no noise, and until :meth:`end` nothing below a warning and no print."""

    over = False
    screen: Optional[TextIO] = None

    def begin(self, files: Sequence[logging.Handler]) -> None:
        """Send what is printed, as pycocotools does, to the log's files."""
        self.screen, sys.stdout = sys.stdout, Prints(files)

    def end(self) -> None:
        """Let news pass; to be called however the start ends."""
        self.over = True
        if self.screen is not None:
            sys.stdout, self.screen = self.screen, None

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to print a record."""
        if record.levelno >= logging.ERROR:
            return True
        text = str(record.msg)
        return (self.over or record.levelno >= logging.WARNING) and not any(
            n in text for n in NOISE
        )


class Prints(io.TextIOBase):
    """Writes what is printed into a log, a line a record."""

    def __init__(self, files: Sequence[logging.Handler]) -> None:
        self.files = files

    def write(self, text: str) -> int:
        """Write text."""
        for line in filter(str.strip, text.splitlines()):
            record = logging.LogRecord('print', logging.INFO, '', 0, line, None, None)
            for handler in self.files:
                handler.handle(record)
        return len(text)


@contextlib.contextmanager
def no_stderr() -> Iterator[None]:
    """Drop what processes that are started here write to stderr."""
    if sys.stderr is None:  # it is closed, and its number may be another file's
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class QuietRunner(Runner):
    """MMEngine's, whose screen shows little until training begins; its log file has everything."""

    quiet_start: Optional[QuietStart] = None

    def __init__(self, *args, **kwargs) -> None:
        try:
            super().__init__(*args, **kwargs)
        except BaseException:
            self.end_quiet_start()
            raise

    def end_quiet_start(self) -> None:
        """From now on the screen shows what MMEngine shows."""
        if self.quiet_start is not None:
            self.quiet_start.end()

    def _log_env(self, env_cfg: dict) -> None:
        """Look for a compiler, as MMEngine does for its log, without the shell's word that there is none."""
        with no_stderr():
            super()._log_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg: Optional[dict], model: nn.Module) -> nn.Module:
        """Have batch norm share its statistics as ``sync_bn_group`` of the config says."""
        model = super().wrap_model(model_wrapper_cfg, model)
        if self.distributed:
            group_batch_norm(model, self.cfg.get('sync_bn_group'))
        return model

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Put a filter on the screen, and Python's warnings into the file."""
        logger = super().build_logger(*args, **kwargs)
        self.quiet_start = QuietStart()
        files = []
        for handler in logger.handlers:
            if isinstance(handler, logging.FileHandler):
                files.append(handler)
            else:
                handler.addFilter(self.quiet_start)
        logging.captureWarnings(True)
        python = logging.getLogger('py.warnings')
        python.handlers, python.propagate = files or [logging.NullHandler()], False
        self.quiet_start.begin(files)
        return logger


@HOOKS.register_module()
class StartSummaryHook(Hook):
    """Print what a run is going to do before its first iteration, and after a minute how long it takes."""

    priority = 'VERY_HIGH'  # before probes, which may take minutes
    MEASURED = 60.0  # seconds

    def before_train(self, runner: Runner) -> None:
        """Print the summary."""
        if isinstance(runner, QuietRunner):
            runner.end_quiet_start()
        lines = '\n'.join(f'  {name:10} {text}' for name, text in summary(runner))
        runner.logger.info(f'This run:\n{lines}')

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Begin to measure with the second iteration; the first one waits for workers."""
        if not hasattr(self, 'first'):
            self.first = runner.iter
        elif runner.iter == self.first + 1:
            self.begin = time.monotonic()

    def after_train_iter(self, runner: Runner, batch_idx: int, *_, **__) -> None:
        """Say once how long it will take."""
        measured = runner.iter - self.first
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

    begin: Optional[float] = None


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
    images = loader.batch_size or loader.batch_sampler.batch_size  # detectors batch by aspect ratio
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
