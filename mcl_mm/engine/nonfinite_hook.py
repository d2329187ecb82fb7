"""Losses and gradients that are not numbers."""

import json
import os.path as osp
from math import isfinite
from typing import Optional

import torch
from mmengine.dist import all_gather_object, barrier, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner
from torch.nn.utils import get_total_norm

from mcl_mm.files import write_text
from mcl_mm.registry import HOOKS

from .cpu import precision


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Never let a NaN or an infinity into the weights, nor into batch norm's statistics.

    In float16 the loss scaler leaves out an update whose gradients overflow; that is
    counted, logged as ``skipped_updates``, and ends the run only if it happens
    :attr:`MAX_SKIPPED_IN_A_ROW` times in a row. (The target's momentum follows the iterations, left
    out or not; it moves towards weights that have not changed.)

    Otherwise the run stops with weights and buffers as they were before the update, and leaves in
    ``WORK_DIR/nonfinite_iter_N`` the names of the batch's images, the losses, and a checkpoint from
    which ``--resume`` repeats the step.

    On a GPU the check waits for the device in every step, for the loss and, where no loss scaler does
    so, for the norm of the gradients. MMEngine, which reads every loss in every iteration, waits
    there anyway; with :class:`LazyRuntimeInfoHook` this check is what waits.

    Raises:
        FloatingPointError: When the run stops.
    """

    # A scale of 2**16, halved 50 times, is no longer what makes numbers overflow.
    MAX_SKIPPED_IN_A_ROW = 50

    priority = 'VERY_HIGH'  # before the target moves

    def before_train(self, runner: Runner) -> None:
        """Look at the gradients before every update."""
        self.names = {id(p): name for name, p in runner.model.named_parameters()}
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        self.scales = scaler is not None and scaler.is_enabled()
        # bfloat16, which needs no scaler but may have one, has the range of float32.
        self.loss_may_overflow = self.scales and precision(runner.optim_wrapper) == 'float16'
        self.skipped = runner.message_hub.runtime_info.get('skipped_updates', 0)
        self.skipped_in_a_row = 0
        self.updated = False
        self.bad_gradients = []
        self.buffers = []
        self.bad_outputs = {}
        self.handle = runner.optim_wrapper.optimizer.register_step_pre_hook(self._before_update)

    def after_train(self, runner: Runner) -> None:
        """Let go of the optimiser."""
        self.handle.remove()

    def _before_update(self, optimizer: torch.optim.Optimizer, *_) -> None:
        self.updated = True
        if self.scales:  # the scaler calls for an update only if it saw finite gradients
            return
        parameters = [
            p for group in optimizer.param_groups for p in group['params'] if p.grad is not None
        ]
        if torch.isfinite(get_total_norm(p.grad for p in parameters)):
            return
        self.bad_gradients = [
            self.names.get(id(p), 'a parameter') for p in parameters if not p.grad.isfinite().all()
        ]
        self.bad_gradients = self.bad_gradients or ['the norm of all']
        for p in parameters:
            p.grad = None  # makes the update do nothing

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Keep the buffers of before the update: the forward pass changes batch norm's statistics."""
        if not self.buffers:
            self.buffers = [buffer.clone() for buffer in runner.model.buffers()]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Count a skipped update, or stop the run."""
        update = runner.optim_wrapper.should_update()
        if self._bad_loss(outputs['loss'], update) or self.bad_gradients:
            self._stop(runner, data_batch, outputs)
        if not update:
            return
        if self.scales:
            self.skipped_in_a_row = 0 if self.updated else self.skipped_in_a_row + 1
            self.skipped += not self.updated
            if not self.updated:
                self._restore_buffers(runner)
                runner.logger.warning(
                    f'Iteration {runner.iter + 1}: gradients not finite, update skipped '
                    f'({self.skipped} so far)'
                )
            self.updated = False
            runner.message_hub.update_info('skipped_updates', self.skipped)
            runner.message_hub.update_scalar('train/skipped_updates', self.skipped)
            if self.skipped_in_a_row >= self.MAX_SKIPPED_IN_A_ROW:
                self._stop(runner, data_batch, outputs)
        self.buffers = []

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take out of the history what a resumed run would average: the scalars of the bad step."""
        if not self.bad_outputs:
            return
        names = [
            *self.bad_outputs,
            *(['grad_norm'] if runner.optim_wrapper.should_update() else []),
        ]
        logged = checkpoint['message_hub']['log_scalars']
        for name in {f'train/{name}' for name in names} & logged.keys():
            buffer = logged.pop(name)
            history, counts = buffer.data
            if len(history) > 1:
                logged[name] = HistoryBuffer(history[:-1], counts[:-1], buffer.max_length)

    def _bad_loss(self, loss: torch.Tensor, update: bool) -> bool:
        # A bad loss of one process makes all gradients bad in the update, where all stop together.
        if self.loss_may_overflow or not (update or get_world_size() == 1):
            return False
        bad = not isfinite(loss.item())
        if (
            self.scales and update and not self.updated
        ):  # the scaler has left it out, on all processes
            bad = any(all_gather_object(bad))
        return bad

    def _restore_buffers(self, runner: Runner) -> None:
        for buffer, value in zip(runner.model.buffers(), self.buffers):
            buffer.copy_(value)

    def _stop(self, runner: Runner, data_batch: dict, outputs: dict) -> None:
        losses = {name: float(value) for name, value in outputs.items()}
        reason = f'iteration {runner.iter + 1}: ' + explain(losses, self.bad_gradients)
        if self.skipped_in_a_row:
            reason += f', and {self.skipped_in_a_row} updates in a row were skipped for it'
        folder = osp.join(runner.work_dir, f'nonfinite_iter_{runner.iter + 1}')
        samples = data_batch.get('data_samples') or []
        report = dict(
            reason=reason,
            images=[sample.get('img_path') for sample in samples],
            losses={name: str(value) for name, value in losses.items()},  # JSON knows no NaN
            gradients=self.bad_gradients,
        )
        # All processes have the same gradients, but a bad loss may be one's alone.
        together = bool(self.bad_gradients) or (self.scales and not self.updated)
        try:
            # Each process has images of its own.
            write_text(osp.join(folder, f'batch_{get_rank()}.json'), json.dumps(report, indent=1))
            self._restore_buffers(runner)
            self.bad_outputs = outputs
            runner.save_checkpoint(
                folder,
                'state.pth',
                meta=dict(epoch=runner.epoch, iter=runner.iter),
                by_epoch=False,
                backend_args=dict(backend='mcl_mm.atomic'),
            )
        finally:
            if together:
                barrier()  # the first process to exit would take the one that writes with it
        raise FloatingPointError(
            f'{reason}. {folder} holds the names of the images and the state before the update; '
            f'--resume {osp.join(folder, "state.pth")} repeats the step'
        )


def explain(losses: dict[str, float], gradients: list[str]) -> str:
    """What is not finite, as text.

    Args:
        losses (dict[str, float]): By name, as logged; their sum is called ``loss``.
        gradients (list[str]): Names of the parameters whose gradients are not.
    """
    bad = [
        name
        for name, value in losses.items()
        if name.startswith('loss') and name != 'loss' and not isfinite(value)
    ]
    if bad:
        return f'not finite: {", ".join(bad)}'
    if not isfinite(losses['loss']):
        return 'not finite: the sum of the losses'
    if gradients:
        return f'all losses are finite, {len(gradients)} gradients are not, first that of {gradients[0]}'
    return 'all losses are finite, gradients are not'
