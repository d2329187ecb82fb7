"""Checkpoints that are whole or not there, and a run that saves before it is stopped."""

import contextlib
import glob
import logging
import os
import os.path as osp
import re
import zipfile
import zlib
from pathlib import Path
from typing import Optional, Union

from mmengine.dist import barrier, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner, find_latest_checkpoint

from mcl_mm.registry import HOOKS

from .exact_resume import ResumableEpochLoop
from .stop_signal import EXIT_CODE, StopSignal


@register_backend('mcl_mm.atomic', force=True)
class AtomicBackend(LocalBackend):
    """Local files that appear under their name when they are complete, on the disk and read back."""

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        """Write a file.

        Args:
            obj (bytes): Its content.
            filepath (str | Path): Its path.

        Raises:
            OSError: It could not be written. A file that was there before is as it was.
        """
        folder = osp.dirname(osp.abspath(filepath))
        os.makedirs(folder, exist_ok=True)
        temporary = f'{filepath}.tmp'
        try:
            with open(temporary, 'wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
                if hasattr(os, 'posix_fadvise'):  # so that reading asks the disk, not the memory
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            check_same(temporary, obj)
            os.replace(temporary, filepath)
        except BaseException:
            with contextlib.suppress(OSError):
                os.remove(temporary)
            raise
        with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def put_text(self, obj: str, filepath: Union[str, Path], encoding: str = 'utf-8') -> None:
        """Write a text file; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def check_same(path: str, content: bytes, chunk: int = 1 << 24) -> None:
    """Raise OSError unless the file holds the content."""
    content = memoryview(content)
    with open(path, 'rb') as file:
        for begin in range(0, len(content) + 1, chunk):
            if file.read(chunk) != content[begin : begin + chunk]:
                raise OSError(f'{path} reads back other than it was written')


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, with care for the files and for signals.

    - Files are written by :class:`AtomicBackend`; older ones than ``max_keep_ckpts`` are removed after
      the new one is in place. If it cannot be written, training goes on with the old ones and the
      next is tried when it is due; only a run that is about to end fails.
    - After SIGTERM, SIGUSR1 or SIGINT the run saves after the current optimiser update, and exits
      with code 75. Inside an epoch the file is called ``epoch_E_iter_I.pth``, ``E`` epochs and ``I``
      iterations being done.
    - Another hook may ask for the same with an error of its own, see :meth:`stop`.
    - A checkpoint that is due amid accumulated gradients waits for the update, or they would be lost.

    Args:
        **kwargs: See MMEngine's ``CheckpointHook``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.signal = StopSignal()
        self.keep_ckpt_ids = []
        self.due = self.stopping = False
        self.error = None

    def before_train(self, runner: Runner) -> None:
        """Choose the backend, tidy up after a run that was killed, and listen to signals."""
        local = '://' not in str(self.out_dir or runner.work_dir)
        if local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = dict(backend='mcl_mm.atomic')
        super().before_train(runner)
        self.keep_ckpt_ids = list(self.keep_ckpt_ids)
        self.last_ckpt = runner.message_hub.runtime_info.get('last_ckpt')  # of a resumed run
        if local and is_main_process():
            for unfinished in glob.glob(osp.join(glob.escape(self.out_dir), '*.pth.tmp')):
                os.remove(unfinished)
        self.signal.listen()

    def stop(self, error: Exception) -> None:
        """End the run after the current optimiser update, with a checkpoint. To be called on all processes.

        Args:
            error (Exception): Raised when the checkpoint is written.
        """
        self.error = error

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Save, and stop, if it is time and no gradient is waiting."""
        if not self.by_epoch and (
            self.every_n_train_iters(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_iter(runner))
        ):
            self.due = True
        if not runner.optim_wrapper.should_update():
            return
        self.stopping = self.signal.agreed() or self.error is not None
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._save_if_due(runner, runner.epoch, runner.iter + 1)
        elif not self.end_of_epoch(runner.train_dataloader, batch_idx):
            self._save_if_due(runner, runner.epoch, runner.iter + 1, inside_epoch=True)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save, and stop, if it is time and no gradient is waiting."""
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        if self.by_epoch and (
            self.every_n_epochs(runner, self.interval, self.save_begin)
            or (self.save_last and self.is_last_train_epoch(runner))
        ):
            self.due = True
        if runner.optim_wrapper.should_update():
            self._save_if_due(runner, runner.epoch + 1, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Stop listening."""
        self.signal.close()
        super().after_train(runner)

    def _save_if_due(
        self, runner: Runner, epochs: int, iters: int, inside_epoch: bool = False
    ) -> None:
        can_resume = not inside_epoch or isinstance(runner.train_loop, ResumableEpochLoop)
        if can_resume and (self.due or self.stopping):
            step = epochs if self.by_epoch else iters
            if self.by_epoch and inside_epoch:
                step = f'{epochs}_iter_{iters}'
            runner.logger.info(f'Saving checkpoint after {iters} iterations')
            self._save_checkpoint_with_step(runner, step, dict(epoch=epochs, iter=iters))
            self.due = False
        if self.stopping:
            runner.call_hook('before_stop')  # what other hooks still have to write down
            barrier()  # the first process to exit would take the one that writes with it
            if self.error is not None:
                raise self.error
            runner.logger.warning(
                f'Stopped by a signal after {iters} iterations. Start again with --resume to go on '
                f'from {self.last_ckpt or "the beginning"}. Exit code {EXIT_CODE}.'
            )
            raise SystemExit(EXIT_CODE)

    def _save_checkpoint_with_step(self, runner: Runner, step: Union[int, str], meta: dict) -> None:
        previous, info = self.last_ckpt, runner.message_hub.runtime_info
        before = {key: info[key] for key in ('last_ckpt', 'keep_ckpt_ids') if key in info}
        kept = [*(old for old in self.keep_ckpt_ids if old != step), step]
        if self.max_keep_ckpts > 0:
            # With those to be removed: if the run is killed before that, resuming does it.
            runner.message_hub.update_info('keep_ckpt_ids', list(kept))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                self.file_client_args,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args,
            )
            if is_main_process():
                AtomicBackend().put_text(
                    self.last_ckpt, osp.join(runner.work_dir, 'last_checkpoint')
                )
        except OSError as error:
            message = f'{self.last_ckpt} could not be written ({error})'
            self.last_ckpt = previous
            for key in ('last_ckpt', 'keep_ckpt_ids'):
                info.pop(key, None)
            info.update(before)
            if self.stopping or meta['iter'] == runner.max_iters:
                raise OSError(
                    f'{message}. Make room and go on with --resume from '
                    f'{previous or "the beginning: there is no older one"}'
                ) from error
            runner.logger.error(
                f'{message}. Training goes on; the next is tried when it is due. The last good '
                f'checkpoint is {previous or "none"}.'
            )
            return
        self.keep_ckpt_ids = kept
        while 0 < self.max_keep_ckpts < len(self.keep_ckpt_ids):
            old = self.file_backend.join_path(
                self.out_dir, self.filename_tmpl.format(self.keep_ckpt_ids.pop(0))
            )
            if is_main_process() and self.file_backend.isfile(old):
                self.file_backend.remove(old)


def find_intact_checkpoint(work_dir: str) -> Optional[str]:
    """The newest checkpoint of a run that is not damaged; those that are get named in the log.

    Args:
        work_dir (str): Where the run's ``last_checkpoint`` is.

    Returns:
        str, optional: Its path; None if there is no checkpoint at all.

    Raises:
        ValueError: All are damaged.
    """
    newest = find_latest_checkpoint(work_dir)
    folders = {work_dir, osp.dirname(newest or '') or work_dir}
    found = [path for folder in folders for path in glob.glob(f'{glob.escape(folder)}/*.pth')]
    candidates = sorted(filter(progress, found), key=progress, reverse=True)
    if newest:  # what is beyond it was left by another run
        last = progress(newest) or (0, 0)
        candidates = [newest, *(c for c in candidates if progress(c) <= last and c != newest)]
    for path in candidates:
        reason = damage(path)
        if reason is None:
            return path
        print_log(f'Skipping the checkpoint {path}: {reason}', 'current', logging.WARNING)
    if candidates:
        raise ValueError(
            f'none of the {len(candidates)} checkpoint(s) in {work_dir} can be read, see above. To '
            'start from the beginning, choose another --work-dir'
        )
    return None


def progress(path: str) -> Optional[tuple[int, int]]:
    """Epochs (or iterations) and iterations inside the epoch by a checkpoint's name, if it is one."""
    match = re.fullmatch(r'(?:epoch|iter)_(\d+)(?:_iter_(\d+))?\.pth', osp.basename(path))
    return match and (int(match[1]), int(match[2] or 0))


def damage(path: str) -> Optional[str]:
    """What is wrong with a checkpoint file: None if all in it has the checksum it was saved with."""
    if not osp.isfile(path):
        return 'there is no such file'
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        return f'it is truncated or damaged ({error})'
    return f'its part {broken} is damaged' if broken else None
