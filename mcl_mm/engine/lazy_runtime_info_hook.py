"""Scalars stay on the device until somebody reads them."""

from typing import Optional

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner
from torch import Tensor

from mcl_mm.registry import HOOKS

from .runner_access import logger_hook


@HOOKS.register_module()
class LazyRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's RuntimeInfoHook that waits for the device only when a line is logged.

    MMEngine reads every loss, every cosine and the norm of the gradient from the device in every
    iteration, and each read waits until the device has nothing left to do. Here the values of all
    iterations since the last line are read together, right before the next line or checkpoint is
    written. The history that MMEngine averages over is the same.
    """

    def __init__(self) -> None:
        self.pending = []
        self.norm = None

    def before_train(self, runner: Runner) -> None:
        """Find out when MMEngine logs, and keep its hands off the norm of the gradient."""
        super().before_train(runner)
        self.logger = logger_hook(runner)
        wrapper = runner.optim_wrapper
        if wrapper.clip_grad_kwargs:
            clip = wrapper.clip_func

            def clip_and_keep(*args, **kwargs) -> None:
                self.norm = clip(*args, **kwargs)

            wrapper.clip_func = clip_and_keep

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Keep the scalars of this iteration; hand all of them on if a line is due."""
        scalars = dict(outputs or {})
        if self.norm is not None:
            scalars[runner.optim_wrapper.grad_name] = self.norm
            self.norm = None
        self.pending.append(scalars)
        if self.every_n_inner_iters(batch_idx, self.logger.interval) or self.end_of_epoch(
            runner.train_dataloader, batch_idx
        ):
            self.hand_on(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Checkpoints hold the history: complete it."""
        self.hand_on(runner)
        complete = runner.message_hub.state_dict()['log_scalars']
        checkpoint['message_hub']['log_scalars'] = complete

    def after_train(self, runner: Runner) -> None:
        """Hand on what the end of training left over."""
        self.hand_on(runner)
        super().after_train(runner)

    def hand_on(self, runner: Runner) -> None:
        """Read all pending scalars from the device at once and add them to the history."""
        named = [(key, value) for scalars in self.pending for key, value in scalars.items()]
        self.pending = []
        tensors = [value.float() for _, value in named if isinstance(value, Tensor)]
        read = iter(torch.stack(tensors).tolist() if tensors else [])
        for key, value in named:
            value = next(read) if isinstance(value, Tensor) else value
            runner.message_hub.update_scalar(f'train/{key}', value)
