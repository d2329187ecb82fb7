"""A Runner that is quiet until training begins; its log file has everything."""

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Optional, TextIO, Union

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch import nn

from mcl_mm.config import type_name

from .local_log import LocalVisBackend
from .sync_bn import group_batch_norm

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

    def build_visualizer(self, visualizer: Optional[Union[Visualizer, dict]] = None) -> Visualizer:
        """Have a full disk cost scalars, not the run; the config stays one that any program can read."""
        if isinstance(visualizer, dict):
            backends = [
                dict(backend, type=LocalVisBackend)
                if type_name(backend) == 'LocalVisBackend'
                else backend
                for backend in visualizer.get('vis_backends') or []
            ]
            visualizer = dict(visualizer, vis_backends=backends)
        return super().build_visualizer(visualizer)

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
