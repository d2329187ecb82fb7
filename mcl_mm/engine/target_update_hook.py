"""When, and how far, the target follows the online network."""

from math import ceil, cos, pi
from typing import Optional

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mcl_mm.models.modules import unwrap
from mcl_mm.registry import HOOKS

from .runner_access import accumulated


@HOOKS.register_module()
class TargetUpdateHook(Hook):
    """Move the target after every optimiser update, and log the momentum.

    mmpretrain's ``CosineEMA`` moves it inside the forward pass instead: one update late, counted
    without regard to gradient accumulation, overwriting the first update by a copy and the target's
    BN statistics by the online ones at every update.

    Args:
        base_momentum (float): ``m0`` of :func:`cosine_momentum`. Defaults to 0.99.
    """

    def __init__(self, base_momentum: float = 0.99) -> None:
        if not 0 <= base_momentum <= 1:
            raise ValueError(f'base_momentum must lie in [0, 1], got {base_momentum}')
        self.base_momentum = base_momentum

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Update the target if this iteration ended in an optimiser update."""
        if not runner.optim_wrapper.should_update():
            return
        every = accumulated(runner.optim_wrapper)
        momentum = cosine_momentum(
            self.base_momentum, runner.iter // every, ceil(runner.max_iters / every)
        )
        model = unwrap(runner.model)
        model.update_target(momentum)
        runner.message_hub.update_scalar('train/momentum', momentum)


def cosine_momentum(base: float, update: int, num_updates: int) -> float:
    r"""Momentum that rises to 1 along a cosine: :math:`1 - (1 - base)(\cos(\pi i / I) + 1) / 2`.

    (`Bootstrap Your Own Latent <https://arxiv.org/abs/2006.07733>`_, section 3.2.)

    Args:
        base (float): Momentum of the first update.
        update (int): ``i``, optimiser updates before this one.
        num_updates (int): ``I``, optimiser updates of the whole run.
    """
    return 1 - (1 - base) * (cos(pi * update / num_updates) + 1) / 2
