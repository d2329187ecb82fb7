"""Hooks and samplers that do not go with the training loop: one counts epochs, the other iterations."""

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch.utils.data import Sampler

from mcl_mm.datasets import SeededSampler

from .checkpoint_hook import SafeCheckpointHook


def check_loop(runner: Runner) -> None:
    """Refuse a run by iterations that counts epochs, and epochs without an end.

    A hook may refuse more in a method ``at_start``.

    Args:
        runner (Runner): About to train.

    Raises:
        ValueError: A run by iterations would save nothing, or would not find its place in the data when
            it is resumed; an epoch would never end.
    """
    loop = runner.train_loop
    sampler = loop.dataloader.sampler
    if isinstance(loop, IterBasedTrainLoop):
        check_saves(runner)
        if isinstance(sampler, SeededSampler) and not sampler.infinite:
            raise ValueError(
                'a run by iterations that is resumed would see other images than one that is not: set '
                'train_dataloader.sampler.infinite=True'
            )
    elif isinstance(loop, EpochBasedTrainLoop) and is_endless(sampler):
        setting = (
            "type='DefaultSampler'" if isinstance(sampler, InfiniteSampler) else 'infinite=False'
        )
        raise ValueError(
            'an epoch would never end, as the sampler goes on for ever: set '
            f'train_dataloader.sampler.{setting}'
        )
    runner.call_hook('at_start')


def check_saves(runner: Runner) -> None:
    """Refuse a checkpoint hook that waits, in a run by iterations, for the end of an epoch."""
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook) or not hook.by_epoch:
            continue
        # MMEngine's own takes the whole run for an epoch.
        at_end = hook.save_last or hook.every_n_epochs(runner, hook.interval, hook.save_begin)
        if isinstance(hook, SafeCheckpointHook) or not (at_end or hook.save_best):
            raise ValueError(
                f'{type(hook).__name__} counts epochs, and a run by iterations has none, so nothing would '
                'be saved: set default_hooks.checkpoint.by_epoch=False, and its interval in iterations'
            )


def is_endless(sampler: Sampler) -> bool:
    """Whether a sampler begins anew by itself."""
    return isinstance(sampler, InfiniteSampler) or getattr(sampler, 'infinite', False)
