"""What becomes of image files that cannot be used."""

import logging
import os
from typing import Optional

from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mcl_mm.datasets.decoding import shown
from mcl_mm.files import append_text
from mcl_mm.registry import HOOKS

from .checkpoint_hook import SafeCheckpointHook


class TooManyBadImagesError(RuntimeError):
    """A run was stopped for its data."""


@HOOKS.register_module()
class BadImagesHook(Hook):
    """Count and list the images that gave way to others; stop the run when there are too many.

    :class:`~mcl_mm.datasets.UnlabelledImages` notes them in the data samples. Every ``interval``
    iterations, and at the end, the processes exchange their notes and the first one adds new files to
    ``bad_images.txt`` in the work directory: path, tab, reason, each file once, also over restarts.
    Before the run stops, :class:`SafeCheckpointHook` saves it.

    Args:
        max_share (float): The share of bad files among the different images seen since the run was
            started, over all processes, above which it stops. Defaults to 0.01.
        min_count (int): So many bad files never stop a run, for the sake of small folders. Defaults
            to 10.
        interval (int): Iterations between two exchanges. Defaults to 50.

    Raises:
        ValueError: ``max_share`` is not a share, or ``interval`` not positive.
    """

    FILE = 'bad_images.txt'

    def __init__(self, max_share: float = 0.01, min_count: int = 10, interval: int = 50) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f'max_share must lie in [0, 1], got {max_share}')
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.max_share, self.min_count, self.interval = max_share, min_count, interval
        self.images_seen = 0  # by all processes, repeated ones too
        self.bad_images = {}  # path to reason, of all processes
        self.listed = set()  # paths in the file
        self.fresh = [0, []]  # this process's images and notes since the last exchange
        self.told = False  # that the list cannot be written

    def before_train(self, runner: Runner) -> None:
        """Read what an earlier start of this run has listed."""
        path = os.path.join(runner.work_dir, self.FILE)
        if is_main_process() and os.path.isfile(path):
            with open(path, encoding='utf-8', errors='surrogateescape') as file:
                self.listed = {line.split('\t')[0] for line in file}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Collect the notes of a batch.

        Raises:
            TooManyBadImagesError: See :meth:`check_share`.
        """
        samples = data_batch.get('data_samples') or ()
        notes = [note for sample in samples for note in sample.metainfo.get('bad_images', ())]
        self.fresh[0] += len(samples) + len(notes)
        self.fresh[1] += notes
        if self.every_n_train_iters(runner, self.interval):
            self.exchange(runner)
            self.check_share(runner)

    def before_stop(self, runner: Runner) -> None:
        """List what was met before a run that is being stopped."""
        self.exchange(runner)

    def after_train(self, runner: Runner) -> None:
        """List what the last iterations have met."""
        self.exchange(runner)

    def exchange(self, runner: Runner) -> None:
        """Share counts and notes among the processes, and list new files."""
        for count, notes in all_gather_object(self.fresh):
            self.images_seen += count
            for path, reason in notes:
                self.bad_images.setdefault(path, reason)
        self.fresh = [0, []]
        new = {p: reason for p, reason in self.bad_images.items() if p not in self.listed}
        if new and is_main_process():
            path = os.path.join(runner.work_dir, self.FILE)
            try:
                append_text(path, ''.join(f'{p}\t{reason}\n' for p, reason in new.items()))
            except OSError as error:
                self._say_once(runner, f'{path} could not be written ({error})')
                return
            self.listed.update(new)
            first = next(iter(new))
            runner.logger.log(
                logging.WARNING,
                f'{len(new)} more image(s) cannot be used and are replaced by others, the first '
                f'being {shown(first)} ({new[first]}); {path} lists all',
            )

    def _say_once(self, runner: Runner, fault: str) -> None:
        if not self.told:
            runner.logger.warning(
                f'{fault}. Training goes on; bad images are listed when there is room'
            )
        self.told = True

    def check_share(self, runner: Runner) -> None:
        """Stop a run whose data are bad.

        Raises:
            TooManyBadImagesError: They are, and no :class:`SafeCheckpointHook` is there to save the
                run and raise this. All processes raise it together.
        """
        seen = min(self.images_seen, len(runner.train_loop.dataloader.dataset))
        bad = len(self.bad_images)
        if bad <= max(self.min_count, self.max_share * seen):
            return
        path, reason = next(reversed(self.bad_images.items()))
        error = TooManyBadImagesError(
            f'{bad} of {seen} images seen cannot be used: {bad / seen:.1%}, more than the '
            f'{self.max_share:.1%} that BadImagesHook.max_share allows. They are listed in '
            f'{os.path.join(runner.work_dir, self.FILE)}, the last one {shown(path)} ({reason}). Find '
            'all of them with `mcl-mm check-images DIR --list LIST`. Mend the files, or raise '
            'max_share, and go on with --resume; or train on the good ones alone, from the end of an '
            'epoch on, with --resume CHECKPOINT and train_dataloader.dataset.ann_file=LIST'
        )
        savers = [hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook)]
        if not savers:
            raise error
        savers[0].stop(error)
