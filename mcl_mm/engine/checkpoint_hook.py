"""A run that saves before it is stopped, and whose checkpoints are whole or not there."""

import os.path as osp
from typing import Optional, Union

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner

from mcl_mm.files import remove_unfinished, write_text
from mcl_mm.registry import HOOKS

from .exact_resume import ResumableEpochLoop
from .stop_signal import EXIT_CODE, StopSignal


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
            remove_unfinished(self.out_dir)
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

    def at_end(self, runner: Runner) -> None:
        """Stop listening, however the run ended: Ctrl-C belongs to the caller again."""
        self.signal.close()

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
                write_text(osp.join(runner.work_dir, 'last_checkpoint'), self.last_ckpt)
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
