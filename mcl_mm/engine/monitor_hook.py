"""Does it learn? What to look at while a run is young, and warnings in words."""

import logging
from collections.abc import Sequence
from math import exp, isfinite, log, log1p, sqrt
from typing import Optional, Union

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor

from mcl_mm.models.modules import unwrap
from mcl_mm.registry import HOOKS

from .runner_access import logger_hook


@HOOKS.register_module()
class MonitorHook(Hook):
    """Measure embeddings and speed whenever MMEngine logs, and warn when a run goes wrong.

    The head itself gives loss, cosines and retrieval accuracy per level and side, and MMEngine the
    ETA, the times and, with ``clip_grad``, the norm of the gradient. This hook adds, of the
    embeddings of this process's tiles in the iteration that is logged:

    - ``std_q_level_0``: standard deviation of the l2-normalised embeddings, mean over their ``D``
      entries: 0 when all are the same, ``1 / sqrt(D)`` when they point everywhere.
    - ``rank_q_level_0``: :func:`effective_rank`, at most the smaller of ``D`` and the number of
      tiles.
    - ``gap_q_level_1``: distance between the mean l2-normalised embedding of a level and that of
      level 0, in [0, 2].

    and of the iterations before:

    - ``chance_ratio_level_0``: the level's loss over ``2 T w_k ln(number of targets)``, what blind
      predictions lose; averaged as MMEngine averages losses (``log_processor.window_size``).
    - ``acc_gap``: retrieval accuracy of the best level minus that of the worst, averaged likewise.
    - ``images_per_second``, over all processes, since the last log.

    A warning comes once, and again only after its cause had gone. Nothing is computed, and the
    device is not waited for, in the iterations between two logs.

    Args:
        grace (float): Share of the run before a level may be called collapsed or at chance.
            Defaults to 0.2, twice the published warm-up.
        min_spread (float): A level has collapsed when the standard deviation falls below this share
            of ``1 / sqrt(D)``, or the effective rank below this share of what is possible. Defaults
            to 0.05.
        min_progress (float): A level is at chance when its loss has come less than this share of
            the way from blind predictions to perfect ones with orthogonal targets. Defaults to
            0.02.
        max_data_share (float): The data is too slow when more than this share of the time is spent
            waiting for it. Defaults to 0.25.

    Raises:
        ValueError: An argument is not a share, in [0, 1].
    """

    def __init__(
        self,
        grace: float = 0.2,
        min_spread: float = 0.05,
        min_progress: float = 0.02,
        max_data_share: float = 0.25,
    ) -> None:
        shares = dict(
            grace=grace,
            min_spread=min_spread,
            min_progress=min_progress,
            max_data_share=max_data_share,
        )
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f'{name} is a share and must lie in [0, 1], got {share}')
        self.grace = grace
        self.min_spread = min_spread
        self.min_progress = min_progress
        self.max_data_share = max_data_share
        self.warned = set()
        self.embeddings, self.handles = [], []

    def before_train(self, runner: Runner) -> None:
        """Find out when MMEngine logs and what can be measured."""
        self.logger = logger_hook(runner)
        model = unwrap(runner.model)
        self.head = getattr(model, 'head', None)
        if not hasattr(self.head, 'predictors'):  # another method: speed alone
            self.head = None
        if not runner.optim_wrapper.clip_grad_kwargs:
            print_log(
                'The norm of the gradient is not logged. To have it, without clipping: '
                "optim_wrapper = dict(clip_grad=dict(max_norm=float('inf')))",
                'current',
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Optional[dict] = None
    ) -> None:
        """Listen at the predictors if this iteration is going to be logged."""
        if self.head is None or not self.is_logged(runner, batch_idx):
            return
        self.embeddings = []
        # Called for all levels of side q, then for those of k, with the embeddings in a tuple.
        self.handles = [
            predictor.register_forward_pre_hook(
                lambda _, args: self.embeddings.append(args[0][0].detach())
            )
            for predictor in self.head.predictors
        ]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Optional[dict] = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Measure and warn if this iteration is going to be logged."""
        if not self.is_logged(runner, batch_idx):
            return
        for handle in self.handles:
            handle.remove()
        self.handles.clear()
        window = min(self.logger.interval, batch_idx + 1)
        images = count_images(data_batch['inputs']) * get_world_size()
        scalars = self.measure_speed(runner, window, images)
        if self.head is not None:
            scalars.update(self.measure_levels(runner, images))
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f'train/{name}', value)

    def is_logged(self, runner: Runner, batch_idx: int) -> bool:
        """Whether MMEngine's LoggerHook writes a line after this iteration."""
        loader, every = runner.train_dataloader, self.logger.interval
        last = self.end_of_epoch(loader, batch_idx)
        last_counts = not self.logger.ignore_last or len(loader) <= every
        return self.every_n_inner_iters(batch_idx, every) or (last and last_counts)

    def measure_speed(self, runner: Runner, window: int, images: int) -> dict[str, float]:
        """Images a second in the last ``window`` iterations; warn if they mostly waited for data."""
        logged = runner.message_hub.log_scalars
        if 'train/time' not in logged:  # without MMEngine's IterTimerHook
            return {}
        time, wait = (logged[f'train/{key}'].data[0][-window:] for key in ('time', 'data_time'))
        # Without the longest wait: that is the workers' start, a checkpoint or a probe.
        longest = wait.argmax()
        share = (wait.sum() - wait[longest]) / max(time.sum() - time[longest], 1e-9)
        self.warn_if(
            share > self.max_data_share,
            'data',
            f'The data starves the device: {share:.0%} of the last {window} iterations was waiting '
            f'for images (warned above {self.max_data_share:.0%}). Raise '
            'train_dataloader.num_workers, put the images on a faster disk or store them smaller',
        )
        return dict(images_per_second=images * len(time) / time.sum())

    def measure_levels(self, runner: Runner, images: int) -> dict[str, float]:
        """What the class lists, level by level, with the warnings that belong to it."""
        scalars = self.measure_embeddings()
        logged, window = runner.message_hub.log_scalars, runner.log_processor.window_size
        late = runner.iter + 1 >= self.grace * runner.max_iters
        accuracies = []
        for level in range(len(self.head.loss_weights)):
            if late and f'std_q_level_{level}' in scalars:
                self.warn_of_collapse(level, scalars, *self.embeddings[level].shape)
            means = {}
            for name in ('acc', 'loss'):
                sides = [logged.get(f'train/{name}_{side}_level_{level}') for side in 'qk']
                sides = [side.mean(window) for side in sides if side is not None]
                if sides:  # another head may log less
                    means[name] = sum(sides) / len(sides)
            if 'acc' in means:
                accuracies.append(means['acc'])
            chance = self.chance(level, images)
            if 'loss' in means and chance > 0:  # a level of weight 0 has no loss
                scalars[f'chance_ratio_level_{level}'] = means['loss'] / chance
                if late:
                    self.warn_of_chance(level, means['loss'], images, runner)
        if accuracies:
            scalars['acc_gap'] = max(accuracies) - min(accuracies)
        return scalars

    def measure_embeddings(self) -> dict[str, float]:
        """Spread, rank and gap of the embeddings that the predictors were given."""
        scalars, centres = {}, {}
        for index, embedding in enumerate(self.embeddings):
            side, level = divmod(index, len(self.head.loss_weights))
            side = 'qk'[side]
            unit = F.normalize(embedding.float(), dim=1)
            centres[level] = unit.mean(dim=0)
            scalars[f'std_{side}_level_{level}'] = unit.std(dim=0, correction=0).mean()
            scalars[f'rank_{side}_level_{level}'] = effective_rank(unit)
            if level > 0:
                gap = (centres[level] - centres[0]).norm()
                scalars[f'gap_{side}_level_{level}'] = gap
        self.warn_if(
            not scalars,
            'embeddings',
            'Standard deviation, rank and gap of the embeddings are not measured: a compiled network '
            'does not call the hooks that watch it',
        )
        if not scalars:
            return {}
        return dict(zip(scalars, torch.stack(list(scalars.values())).tolist()))

    def chance(self, level: int, targets: int) -> float:
        """Loss of one side and level whose predictions are blind; 0 for a head without negatives."""
        temperature = self.head.temperature if getattr(self.head, 'negatives', False) else 0
        return 2 * temperature * self.head.loss_weights[level] * log(targets)

    def warn_of_collapse(self, level: int, scalars: dict, tiles: int, length: int) -> None:
        """Compare the worse side's spread and rank with what is possible."""
        sides = [side for side in 'qk' if f'std_{side}_level_{level}' in scalars]
        stds = [scalars[f'std_{side}_level_{level}'] for side in sides]
        ranks = [scalars[f'rank_{side}_level_{level}'] for side in sides]
        if not all(map(isfinite, stds + ranks)):  # a step that is left out says nothing
            return
        std, rank = min(stds), min(ranks)
        full_std, full_rank = 1 / sqrt(length), min(tiles, length)
        self.warn_if(
            std < self.min_spread * full_std or rank < self.min_spread * full_rank,
            f'collapse of level {level}',
            f'Level {level} collapses: its embeddings have a standard deviation of {std:.2g} (spread '
            f'evenly {full_std:.2g}) and an effective rank of {rank:.1f} (possible {full_rank}). '
            'Lower the learning rate or lengthen its warm-up',
        )

    def warn_of_chance(self, level: int, loss: float, targets: int, runner: Runner) -> None:
        """Compare a level's loss with those of blind and of perfect predictions."""
        chance = self.chance(level, targets)
        # Cosine 1 to the own image, 0 to all others.
        perfect = log1p((targets - 1) * exp(-1 / self.head.temperature)) / log(targets)
        self.warn_if(
            1 - loss / chance < self.min_progress * (1 - perfect),
            f'chance loss of level {level}',
            f'Level {level} is still at chance after {runner.iter + 1} of {runner.max_iters} '
            f'iterations: its loss a side is {loss:.4f}, blind predictions among {targets} targets '
            f'lose {chance:.4f}. Check that images and montage look right '
            '(`mcl-mm browse CONFIG OUT.png`) and that the learning rate suits the batch size',
        )

    def warn_if(self, wrong: bool, name: str, message: str) -> None:
        """Say so once; when it is over, say that too."""
        if wrong and name not in self.warned:
            self.warned.add(name)
            print_log(message, 'current', logging.WARNING)
        elif not wrong and name in self.warned:
            self.warned.remove(name)
            print_log(f'No longer warned of: {name}', 'current')


def count_images(inputs: Union[Tensor, Sequence[Tensor]]) -> int:
    """Images of a batch: ``(N, C, H, W)``, a list of views of that shape, or a list of ``(C, H, W)``."""
    views = not torch.is_tensor(inputs) and inputs[0].dim() == 4
    return len(inputs[0] if views else inputs)


def effective_rank(embeddings: Tensor) -> Tensor:
    r"""Number of directions that embeddings really use: :math:`\exp(-\sum_i p_i \ln p_i)`.

    ``p`` are the singular values over their sum (`The effective rank: A measure of effective
    dimensionality <https://ieeexplore.ieee.org/document/7098875>`_; as a measure of pre-training
    in `RankMe <https://arxiv.org/abs/2210.02885>`_).

    Args:
        embeddings (Tensor): ``(N, D)``, float.

    Returns:
        Tensor: Scalar, from 1 (all the same up to a factor) to ``min(N, D)``; NaN if a value is not
        finite.
    """
    if not embeddings.isfinite().all():
        return embeddings.new_tensor(float('nan'))
    singular = torch.linalg.svdvals(embeddings)
    return torch.special.entr(singular / singular.sum()).sum().exp()
