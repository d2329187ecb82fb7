"""A run of MMEngine's Runner, from a config and a command line to its end."""

import contextlib
import functools
import importlib
import io
import os.path as osp
from collections.abc import Mapping
from typing import Any, Optional

import torch
from mmengine.config import Config
from yapf.yapflib import yapf_api

from mcl_mm.channels import follow_channels
from mcl_mm.config import type_name
from mcl_mm.datasets.settings import check_number
from mcl_mm.files import check_folder
from mcl_mm.reading import read_config

from .bad_images_hook import TooManyBadImagesError
from .cpu import adapt_to_cpu, replace_sync_bn
from .follow_config import FollowConfigHook, ResumeError
from .launchers import check_launcher
from .quiet_start import QuietRunner
from .resume import choose_start
from .start_check import check_sides, check_start
from .start_summary import StartSummaryHook


class RunError(Exception):
    """A run has ended for a reason that one sentence tells."""


def check_length(cfg: Config) -> None:
    """Refuse a length of training, or between checkpoints, that is none.

    Raises:
        ValueError: It is no whole number, or below 1.
    """
    loop, hooks = cfg.get('train_cfg') or {}, cfg.get('default_hooks') or {}
    for name in ('max_iters', 'max_epochs'):
        if isinstance(loop, Mapping) and name in loop:
            check_number(f'train_cfg.{name}', loop[name], low=1, whole=True)
    interval = (hooks.get('checkpoint') or {}).get('interval', 1)
    check_number('default_hooks.checkpoint.interval', interval, whole=True)


def check_folders(cfg: Config) -> None:
    """Find out whether the log and the checkpoints can be written where the config has them.

    Raises:
        OSError: See :func:`~mcl_mm.files.check_folder`.
    """
    check_folder(cfg.work_dir)
    out_dir = ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('out_dir')
    if out_dir and '://' not in out_dir:
        check_folder(osp.join(out_dir, osp.basename(osp.abspath(cfg.work_dir))))


def load_config(
    path: str,
    work_dir: Optional[str] = None,
    options: Optional[Mapping[str, Any]] = None,
    launcher: str = 'none',
) -> Config:
    """Read a config and apply the command line to it.

    Args:
        path (str): The config.
        work_dir (str, optional): Where logs and checkpoints go. Defaults to None: the config's, or a
            folder of its name in ``work_dirs``.
        options (Mapping[str, Any], optional): Settings to override, as ``{'a.b': value}``. Defaults to
            None.
        launcher (str): Who has started the processes. Defaults to ``'none'``.

    Raises:
        OSError, ValueError: See the sentence.
    """
    check_launcher(launcher)
    cfg = read_config(path, options)
    follow_channels(cfg)
    cfg.launcher = launcher
    name = osp.splitext(osp.basename(path))[0]
    cfg.work_dir = work_dir or cfg.get('work_dir') or osp.join('work_dirs', name)
    if cfg.get('default_scope') == 'mmdet':
        with contextlib.redirect_stdout(
            io.StringIO()
        ):  # it prints that it misses a library nobody needs
            importlib.import_module('mmdet.datasets')
    return cfg


def use_mixed_precision(cfg: Config) -> None:
    """What ``--amp`` means."""
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    needs_none = cfg.optim_wrapper.get('dtype') == 'bfloat16'
    cfg.optim_wrapper.setdefault('loss_scale', dict(enabled=False) if needs_none else 'dynamic')


def scale_learning_rate(cfg: Config) -> None:
    """What ``--auto-scale-lr`` means.

    Raises:
        ValueError: The config does not say for which batch its rate is.
    """
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise ValueError(
            f'--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in {cfg.filename}'
        )
    cfg.auto_scale_lr.enable = True


def adapt_to_machine(cfg: Config, options: Optional[Mapping[str, Any]] = None) -> None:
    """Replace what this machine, or a single process, has no use for.

    Args:
        cfg (Config): Changed in place.
        options (Mapping[str, Any], optional): See :func:`load_config`.

    Raises:
        ValueError: The command line asks for what does not fit the config or the machine.
    """
    wrapper = cfg.get('optim_wrapper') or {}
    if 'optim_wrapper.dtype' in (options or {}) and type_name(wrapper) == 'OptimWrapper':
        raise ValueError('optim_wrapper.dtype is for mixed precision: add --amp')
    if cfg.launcher == 'none':
        replace_sync_bn(
            cfg.get('model')
        )  # MMCV's asks for other processes already when it is built
    if not torch.cuda.is_available():
        adapt_to_cpu(cfg, options)


def log_locally(cfg: Config) -> None:
    """Have a run write its scalars and its config beside its checkpoints, wherever else it logs to.

    Plots and comparisons read them there.

    Args:
        cfg (Config): Changed in place.
    """
    visualizer = cfg.get('visualizer') or dict(type='Visualizer')
    backends = visualizer.get('vis_backends') or []
    if 'LocalVisBackend' not in map(type_name, backends):
        cfg.visualizer = dict(visualizer, vis_backends=[*backends, dict(type='LocalVisBackend')])


@functools.cache
def format_once() -> None:
    """Have this process format each text of a config once, whoever asks.

    A run writes its config to five places. MMEngine formats it anew for each, which takes a second, or
    several for a detector.
    """
    format_code, known = yapf_api.FormatCode, {}

    def remembered(text: str, **settings: Any) -> tuple[str, bool]:
        key = text, repr(settings)
        if key not in known:
            known.clear()
            known[key] = format_code(text, **settings)
        return known[key]

    yapf_api.FormatCode = remembered


def start(cfg: Config, resume: Optional[str] = None) -> QuietRunner:
    """Build a run, and find out whether it would come to its end.

    Args:
        cfg (Config): The run.
        resume (str, optional): See :func:`~mcl_mm.engine.resume.choose_start`. Defaults to None.

    Raises:
        OSError, ValueError: See the sentence.
    """
    if resume not in (None, 'auto') and not osp.isfile(resume):
        raise FileNotFoundError(f'no checkpoint to resume from at {resume}')
    check_folders(cfg)
    check_length(cfg)
    check_sides(cfg)
    log_locally(cfg)
    format_once()
    runner = QuietRunner.from_cfg(cfg)
    for hook in (FollowConfigHook(), StartSummaryHook()):
        runner.register_hook(hook)
    try:
        choose_start(runner, resume)
        check_start(runner)
    except BaseException:
        runner.end_quiet_start()
        raise
    return runner


def train(runner: QuietRunner) -> None:
    """Train to the end.

    Raises:
        RunError: The data, the disk or the numbers end the run.
    """
    try:
        runner.train()
    except (FloatingPointError, ResumeError, TooManyBadImagesError) as error:
        raise RunError(f'{type(error).__name__}: {error}') from error
    except OSError as error:  # the disk is full, the images have vanished
        # Out of a data worker it comes with a traceback, of which the last line says what it was.
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].rstrip('.')
        raise RunError(f'{reason}. Go on from the last checkpoint with --resume') from error
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error):
            raise
        raise RunError(
            f'RuntimeError: {error} If the machine ran out of memory, lower '
            'train_dataloader.num_workers. Go on from the last checkpoint with --resume.'
        ) from error
    finally:
        runner.end_quiet_start()
        runner.call_hook('at_end')
