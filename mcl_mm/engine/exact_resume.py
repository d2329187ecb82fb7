"""A run that was interrupted anywhere goes on as if it had not been."""

import logging
import zlib
from typing import Optional, Union

from mmengine.dist import broadcast_object_list, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import Dataset

from mcl_mm.datasets import SeededSampler, seed_generators
from mcl_mm.datasets.storage import unpacked
from mcl_mm.models import Teacher
from mcl_mm.models.modules import unwrap
from mcl_mm.registry import HOOKS, LOOPS

from .runner_access import resumes


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's epoch-based training, able to begin inside an epoch.

    Attributes:
        batches_done (int): Batches of the current epoch that a resumed run has seen already.
        epoch_begin (int): The iteration at which the current epoch began.
    """

    batches_done = 0
    epoch_begin = 0

    def run_epoch(self) -> None:
        """Train on what is left of the epoch."""
        begin, self.batches_done = self.batches_done, 0
        self.epoch_begin = self._iter - begin
        if begin:
            self.dataloader.sampler.skip(begin * self.dataloader.batch_size)
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, data_batch in enumerate(self.dataloader, begin):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make the random numbers of an iteration depend on its number, and find the place in the data.

    There is no state of a generator to save or lose: before each iteration they are seeded from the
    run's seed, the process and the iteration; the samples get theirs from :class:`SeededSampler`.
    """

    priority = 'VERY_HIGH'  # before any hook that draws random numbers

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Tell the loop how much of its epoch is done.

        Raises:
            ValueError: See :func:`batches_done`.
        """
        if resumes(runner):
            done = batches_done(runner, checkpoint['meta'])
            if done:
                runner.train_loop.batches_done = done

    def before_train(self, runner: Runner) -> None:
        """Agree on the seed; a resumed run has that of its checkpoint by now."""
        seed = [runner.seed]  # with diff_rank_seed the processes' differ
        broadcast_object_list(seed)
        self.seed = seed[0]
        sampler = runner.train_dataloader.sampler
        if isinstance(sampler, SeededSampler):
            sampler.seed = self.seed
        else:
            print_log(
                f'Images come from {type(sampler).__name__}, so a run that is interrupted will not go '
                "on exactly: use train_dataloader.sampler=dict(type='mcl_mm.SeededSampler')",
                'current',
                logging.WARNING,
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Seed all generators: what the montage and the model draw follows from here."""
        seed_generators(self.seed, get_rank(), runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add to ``meta`` the place in the data, and what it is counted in."""
        meta, loop = checkpoint['meta'], runner.train_loop
        inside = isinstance(loop, ResumableEpochLoop) and meta['epoch'] == loop.epoch
        done = meta['iter'] - loop.epoch_begin if inside else 0
        meta['data'] = dict(describe_data(runner), batches_done=done)


def describe_data(runner: Runner) -> dict[str, Union[int, str]]:
    """What makes up a step: images, how many and which; batch, processes; an epoch's steps; a teacher."""
    loader, teacher = runner.train_dataloader, getattr(unwrap(runner.model), 'teacher', None)
    known = dict(teacher=teacher.fingerprint()) if isinstance(teacher, Teacher) else {}
    return dict(
        known,
        images=len(loader.dataset),
        names=fingerprint(loader.dataset),
        batch_size=loader.batch_size,
        processes=runner.world_size,
        epoch_length=len(loader),
    )


def fingerprint(dataset: Dataset, count: int = 1000) -> int:
    """A number that other images have another of: of file names, wherever the folder is, packed or not.

    Args:
        dataset (Dataset): With ``get_data_info``; 0 for others.
        count (int): So many of its images, evenly spread, make the number. Defaults to 1000.
    """
    if not hasattr(dataset, 'get_data_info'):
        return 0
    chosen = range(0, len(dataset), max(1, len(dataset) // count))
    names = [unpacked(str(dataset.get_data_info(index).get('img_path'))) for index in chosen]
    root = (getattr(dataset, 'data_root', None) or '').rstrip('/')
    inside = (name.removeprefix(root).replace('//', '/') if root else name for name in names)
    return zlib.crc32('\n'.join(inside).encode(errors='replace'))


def batches_done(runner: Runner, meta: dict, silent: bool = False) -> int:
    """How many batches of its current epoch a checkpoint has behind it.

    Args:
        runner (Runner): About to resume.
        meta (dict): The checkpoint's ``meta``.
        silent (bool): Do not say what has changed. Defaults to False.

    Returns:
        int: 0 for training by iterations.

    Raises:
        ValueError: The checkpoint was saved inside an epoch, and this run's epochs are others.
    """
    before, now = meta.get('data'), describe_data(runner)
    if before is None:  # not saved by this project's hooks, so at the end of an epoch
        return 0
    changes = describe_changes(before, now)
    done = before['batches_done']
    if done and changes:
        raise ValueError(
            f'the checkpoint is from inside an epoch, whose place in the data is lost: {changes}. '
            'Resume with what it was saved with, or from a checkpoint at the end of an epoch'
        )
    if done and not (
        isinstance(runner.train_loop, ResumableEpochLoop)
        and isinstance(runner.train_dataloader.sampler, SeededSampler)
    ):
        raise ValueError(
            'the checkpoint is from inside an epoch. Going on from there needs '
            "train_cfg=dict(type='mcl_mm.ResumableEpochLoop', ...) and "
            "train_dataloader.sampler=dict(type='mcl_mm.SeededSampler')"
        )
    if changes and not silent:
        print_log(
            f'The resumed run differs from the one saved ({changes}): it goes on, but not exactly.',
            'current',
            logging.WARNING,
        )
    return done


def describe_changes(before: dict, now: dict) -> str:
    """What differs between two of :func:`describe_data`; the first may be an older, shorter one."""
    changes = [
        f'{key} {before[key]} -> {value}'
        for key, value in now.items()
        if key != 'names' and before.get(key, value) != value
    ]
    if before.get('names', now['names']) != now['names']:
        changes.append('other image files')
    return ', '.join(changes)
