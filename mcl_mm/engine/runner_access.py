"""What this project takes from MMEngine beside its public names: a new MMEngine breaks this file alone."""

from typing import Optional

from mmengine.hooks import LoggerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner


def resumes(runner: Runner) -> bool:
    """Whether a run goes on from a checkpoint, if there is one."""
    return runner._resume


def start_file(runner: Runner) -> Optional[str]:
    """The file that a run takes weights from, or resumes; None: none, or the newest of its work dir."""
    return runner._load_from


def set_start(runner: Runner, path: Optional[str], resume: bool) -> None:
    """Choose what a run, not yet started, begins from.

    Args:
        runner (Runner): The run.
        path (str, optional): A file; None for none.
        resume (bool): Go on from it, rather than take its weights.
    """
    runner._load_from, runner._resume = path, resume


def build_train_loop(runner: Runner) -> None:
    """Build the training loop and its data ahead of ``runner.train()``."""
    runner._train_loop = runner.build_train_loop(runner._train_loop)


def accumulated(wrapper: OptimWrapper) -> int:
    """Iterations whose gradients make one optimiser update."""
    return wrapper._accumulative_counts


def logger_hook(runner: Runner) -> LoggerHook:
    """MMEngine's LoggerHook of a run; one with its defaults if the run has none."""
    return next((hook for hook in runner.hooks if isinstance(hook, LoggerHook)), LoggerHook())
