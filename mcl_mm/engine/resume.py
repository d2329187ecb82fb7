"""Where a run begins."""

from typing import Optional

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from .intact_checkpoint import find_intact_checkpoint
from .runner_access import resumes, set_start, start_file


def choose_start(runner: Runner, resume: Optional[str] = None) -> None:
    """Choose what a run, not yet started, begins from. To be called on all processes.

    Args:
        runner (Runner): The run.
        resume (str, optional): A checkpoint to go on from, or ``'auto'``: the newest of the run that is
            intact. If there is none the run begins as its config says, from ``load_from`` if that is
            set: a job that is requeued calls its first start the same. Defaults to None: as the
            config's ``resume`` and ``load_from`` say.

    Raises:
        ValueError: All checkpoints of the run are damaged.
    """
    if resume is None and resumes(runner) and start_file(runner) is None:
        resume = 'auto'
    if resume is None:
        return
    if resume != 'auto':
        set_start(runner, resume, resume=True)
        return
    found = newest_of_all(runner)
    if found is not None:
        set_start(runner, found, resume=True)
        return
    set_start(runner, start_file(runner), resume=False)
    begins = (
        f'from the weights {start_file(runner)}' if start_file(runner) else 'as its config says'
    )
    print_log(f'Nothing to resume in {runner.work_dir}: the run begins, {begins}.', 'current')


def newest_of_all(runner: Runner) -> Optional[str]:
    """The newest intact checkpoint, searched by the first process and told to the others.

    Raises:
        ValueError: All are damaged; on every process.
    """
    answer = [None, None]
    if is_main_process():
        hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        try:
            answer[0] = find_intact_checkpoint(runner.work_dir, hooks[0].out_dir if hooks else None)
        except ValueError as error:
            answer[1] = str(error)
    broadcast_object_list(answer)
    found, error = answer
    if error is not None:
        raise ValueError(error)
    return found
