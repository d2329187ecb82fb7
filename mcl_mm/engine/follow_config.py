"""A resumed run takes its state from the checkpoint, and its settings from the config."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mcl_mm.registry import HOOKS

from .config_changes import config_changes
from .cpu import precision
from .exact_resume import batches_done
from .runner_access import resumes

MOVING = ('last_step', '_global_step', '_last_value', 'verbose')  # of a scheduler: no settings
KINDS = (
    'momentum',
    'betas',
    'eta',
    'alpha',
    'rho',
)  # an optimiser's state fits one that has the same


class ResumeError(ValueError):
    """A run cannot go on from a checkpoint as its config says."""


@HOOKS.register_module()
class FollowConfigHook(Hook):
    """Let a resumed run go on as its config says, and name each setting that has changed.

    MMEngine takes learning rate, weight decay and schedule from the checkpoint, whatever the config says
    meanwhile. Here they are the config's, at the place in the schedule where a run would be that had
    had them from the beginning. A run whose settings have not changed goes on to the bit.

    From the checkpoint come weights, the optimiser's buffers, the seed and the history of the log.
    """

    priority = 'HIGH'  # after ExactResumeHook, which has found the place in the data

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the precision, which is no part of a run's state."""
        checkpoint['meta']['precision'] = precision(runner.optim_wrapper)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put into the checkpoint, before the run takes it, what the config says.

        Raises:
            ResumeError: It has no meaning for this checkpoint.
        """
        if not resumes(runner):
            return
        meta = checkpoint['meta']
        # One that begins at 0, as a converted one does, has nothing to go on with.
        if meta.get('iter') and not checkpoint.get('optimizer'):
            raise ResumeError(
                'the checkpoint has no state of the optimiser, as with save_optimizer=False, and the rates '
                'would begin anew. Start from the weights, with load_from instead of --resume'
            )
        if (checkpoint.get('optimizer') or {}).get('loss_scaler') == {}:
            # Of a run without one: PyTorch would not load it.
            del checkpoint['optimizer']['loss_scaler']
        changes = [*place_in_epochs(runner, meta)]
        check_length(runner, meta)
        if isinstance(runner.optim_wrapper, OptimWrapperDict):
            print_log("Several optimisers: rates and schedules are the checkpoint's.", 'current')
        elif checkpoint.get('optimizer'):
            changes += compare_settings(runner, checkpoint)
            if changes:
                take_settings(runner, checkpoint)
        now = precision(runner.optim_wrapper)
        changes += difference('precision', meta.get('precision', now), now)
        if meta.get('cfg'):
            changes += config_changes(meta['cfg'], runner.cfg.pretty_text)
        if changes:
            text = '\n'.join(f'    {change}' for change in changes)
            print_log(
                f'The resumed run goes on as its config says, which has changed:\n{text}',
                'current',
                logging.WARNING,
            )
        say_seed(runner, meta)


def place_in_epochs(runner: Runner, meta: dict) -> Iterator[str]:
    """Count iterations in this run's epochs, which another batch or other data make longer or shorter."""
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        return
    place = meta['epoch'] * len(runner.train_dataloader) + batches_done(runner, meta, silent=True)
    yield from difference('iterations done', meta['iter'], place)
    meta['iter'] = place


def check_length(runner: Runner, meta: dict) -> None:
    """Compare what is done with what there is to do.

    Raises:
        ResumeError: More is done than the config asks for.
    """
    unit = 'epoch' if isinstance(runner.train_loop, EpochBasedTrainLoop) else 'iter'
    done, wanted = meta[unit], getattr(runner, f'max_{unit}s')
    if done > wanted:
        raise ResumeError(
            f'the checkpoint has {done} {unit}s behind it, the config asks for {wanted}: raise '
            f'train_cfg.max_{unit}s, or take an earlier checkpoint'
        )
    if done == wanted:
        print_log(f'All {done} {unit}s are done: there is nothing left to train.', 'current')


def compare_settings(runner: Runner, checkpoint: dict) -> list[str]:
    """What the config and a checkpoint say differently of optimiser and schedule, one line each.

    Raises:
        ResumeError: The checkpoint's optimiser has other state than the config's.
    """
    old_groups, new_groups = parameter_groups(runner, checkpoint)
    sizes = [[len(group['params']) for group in groups] for groups in (old_groups, new_groups)]
    kinds = [{key for key in KINDS if key in groups[0]} for groups in (old_groups, new_groups)]
    if sizes[0] != sizes[1] or kinds[0] != kinds[1]:
        raise ResumeError(
            "the optimiser of the checkpoint is of another kind than the config's, or groups parameters "
            'otherwise, so its buffers do not fit. Resume with the one it was saved with; or start from '
            'the weights alone, with load_from instead of --resume'
        )
    old_schedule = checkpoint.get('param_schedulers') or []
    new_schedule = [scheduler.state_dict() for scheduler in runner.param_schedulers or []]
    scheduled = {state['param_name'] for state in (*old_schedule, *new_schedule)}
    changes = []
    for old, new in zip(old_groups, new_groups):
        for key in new.keys() & old.keys() - {'params', *(f'initial_{name}' for name in scheduled)}:
            start = f'initial_{key}' if key in scheduled else key  # now it is on its way
            changes += difference(
                f'optimizer.{key}', old.get(start, old[key]), new.get(start, new[key])
            )
    changes = list(dict.fromkeys(changes))
    changes = (
        [*changes[:6], f'and {len(changes) - 6} more of the optimizer']
        if len(changes) > 6
        else changes
    )
    return changes + compare_schedules(runner.param_schedulers or [], old_schedule, new_schedule)


def parameter_groups(runner: Runner, checkpoint: dict) -> tuple[list[dict], list[dict]]:
    """Those of a checkpoint and of a run; MMEngine adds one of its own, which shows the plain rate."""
    saved = checkpoint['optimizer']
    own = saved.get('base_param_settings')
    return [*saved['param_groups'], *([own] if own else [])], runner.optim_wrapper.param_groups


def compare_schedules(
    schedulers: Sequence, old_schedule: Sequence[dict], new_schedule: Sequence[dict]
) -> list[str]:
    """The part of :func:`compare_settings` on schedulers."""
    if len(old_schedule) != len(new_schedule):
        return difference('schedulers', len(old_schedule), len(new_schedule))
    changes = []
    for scheduler, old, new in zip(schedulers, old_schedule, new_schedule):
        for key in new.keys() - {*MOVING, 'base_values'}:  # those are the optimiser's
            changes += difference(f'{type(scheduler).__name__}.{key}', old.get(key), new.get(key))
    return changes


def take_settings(runner: Runner, checkpoint: dict) -> None:
    """Run through the config's schedule to the checkpoint's place, and put where it ends in its stead."""
    schedulers = runner.param_schedulers or []
    iters, epochs = checkpoint['meta']['iter'], checkpoint['meta']['epoch']
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    length = len(runner.train_dataloader) if by_epoch else iters + 1
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # PyTorch's custom: first the optimiser, then the schedule
        for iteration in range(1, iters + 1):
            step(schedulers, by_epoch=False)
            if iteration % length == 0 and iteration // length <= epochs:
                step(schedulers, by_epoch=True)
    for old, new in zip(*parameter_groups(runner, checkpoint)):
        old.update((key, value) for key, value in new.items() if key != 'params')
    checkpoint['param_schedulers'] = [scheduler.state_dict() for scheduler in schedulers]


def step(schedulers: Sequence, by_epoch: bool) -> None:
    """One step of those that count epochs, or iterations."""
    for scheduler in schedulers:
        if scheduler.by_epoch == by_epoch:
            scheduler.step()


def say_seed(runner: Runner, meta: dict) -> None:
    """The seed is the checkpoint's, or the run would not go on exactly."""
    wanted: Optional[int] = (runner.cfg.get('randomness') or {}).get('seed')
    if wanted is not None and meta.get('seed') not in (None, wanted):
        print_log(
            f"The seed stays that of the checkpoint, {meta['seed']}: the config's, {wanted}, is for runs "
            'that begin.',
            'current',
            logging.WARNING,
        )


def difference(name: str, old: Any, new: Any) -> list[str]:
    """A line if a setting has changed, else none."""
    old, new = (tuple(value) if isinstance(value, list) else value for value in (old, new))
    return [] if old == new else [f'{name}: {old} -> {new}']
