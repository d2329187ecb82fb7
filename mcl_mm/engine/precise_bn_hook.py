"""Batch norm statistics of the finished weights, before they are evaluated and saved."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn

from mcl_mm.models.modules import is_batch_norm, unwrap
from mcl_mm.random_state import same_random_state
from mcl_mm.registry import HOOKS


@HOOKS.register_module()
class PreciseBNHook(Hook):
    """Measure BN statistics on training batches before each evaluation and at the end of training.

    Running averages lag behind weights that change. With the weights at rest, the mean and variance
    a layer sees in training are measured over many batches and replace its running ones. Layers that
    keep theirs (frozen stages, ``norm_eval``) are left alone.

    mmpretrain's hook of this name runs ``mode='tensor'``, where the heads of a two-stage detector
    see other boxes than in training: proposals by score instead of the sampled quarter of positives.
    This one runs the training step's own forward pass. The batches are drawn beside the training
    ones and no random state changes, so a run trains the same with the hook as without it.

    It acts before ``CheckpointHook`` (by priority), so the checkpoint of an epoch that is evaluated
    holds what was evaluated.

    Args:
        num_batches (int): Batches to measure on, in each process; fewer if the data set has fewer.
            Defaults to 200, Detectron2's number.
    """

    def __init__(self, num_batches: int = 200) -> None:
        if num_batches < 1:
            raise ValueError(f'num_batches must be at least 1, got {num_batches}')
        self.num_batches = num_batches

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure if an evaluation or the end follows this epoch."""
        loop = runner.train_loop
        if isinstance(loop, EpochBasedTrainLoop) and evaluates(
            runner, runner.epoch + 1, runner.max_epochs
        ):
            self.measure(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Measure if an evaluation or the end follows this iteration."""
        loop = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop) and evaluates(
            runner, runner.iter + 1, runner.max_iters
        ):
            self.measure(runner)

    def measure(self, runner: Runner) -> None:
        """Replace the running statistics of the runner's model."""
        model = unwrap(runner.model)
        with same_random_state():
            loader = runner.build_dataloader(
                dict(
                    runner.cfg.train_dataloader,
                    dataset=runner.train_loop.dataloader.dataset,
                    persistent_workers=False,
                ),
                # Other images each time, the same ones when the run is repeated.
                seed=runner.seed + runner.iter + 1,
            )
            count = min(self.num_batches, len(loader))
            print_log(f'Precise batch norm: measuring {count} batches', 'current')
            with (
                torch.no_grad(),
                runner.optim_wrapper.optim_context(runner.model),
                batch_sums(model) as sums,
            ):
                for batch in itertools.islice(loader, count):
                    model(**model.data_preprocessor(batch, True), mode='loss')
        for layer, total in sums.items():
            all_reduce(total)
            if total[2].all():
                mean, second_moment = total[:2] / total[2]
                layer.running_mean.copy_(mean)
                layer.running_var.copy_(second_moment - mean.square())


def evaluates(runner: Runner, done: int, last: int) -> bool:
    """Whether an evaluation, or the end, follows after ``done`` epochs (iterations) of ``last``."""
    loop = runner.train_loop
    on_turn = done >= loop.val_begin and done % loop.val_interval == 0
    return done == last or (runner.val_loop is not None and on_turn)


@contextmanager
def batch_sums(model: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    r"""Sum what every BN layer that learns statistics sees, batch by batch.

    A layer's entry, ``(3, C)`` float64, holds the sums of :math:`\mu_B` and of
    :math:`\mu_B^2 + \sigma_B^2`, and the number of batches :math:`B`. With them
    :math:`\mu = E[\mu_B]` and :math:`\sigma^2 = E[\mu_B^2 + \sigma_B^2] - \mu^2`
    (`Rethinking "Batch" in BatchNorm <https://arxiv.org/abs/2105.07576>`_, section 3.1).
    """
    sums = {
        layer: layer.running_mean.new_zeros(3, layer.num_features, dtype=torch.float64)
        for layer in model.modules()
        if is_batch_norm(layer) and layer.training and layer.track_running_stats
    }
    momenta = [layer.momentum for layer in sums]

    def add(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
        # With a momentum of 1 the running statistics are those of the last batch, over all
        # processes if the layer synchronises.
        mean, variance = layer.running_mean.double(), layer.running_var.double()
        sums[layer] += torch.stack([mean, mean.square() + variance, torch.ones_like(mean)])

    handles = [layer.register_forward_hook(add) for layer in sums]
    try:
        for layer in sums:
            layer.momentum = 1.0
        yield sums
    finally:
        for layer, momentum, handle in zip(sums, momenta, handles):
            layer.momentum = momentum
            handle.remove()
