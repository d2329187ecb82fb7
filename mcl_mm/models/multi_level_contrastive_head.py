"""The multi-level contrastive loss."""

from collections.abc import Sequence
from typing import Optional

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.model import BaseModule, ModuleList
from torch import Tensor

from mcl_mm.registry import MODELS

from .mcl_neck import mlp_norm_cfg


@MODELS.register_module()
class MultiLevelContrastiveHead(BaseModule):
    r"""Pull every tile's embedding towards the full image it was made from.

    Per level ``k`` a predictor of its own maps the embeddings of the tiles; with the l2-normalised
    targets ``z`` of the other side's full images, gathered from all processes,

    .. math::
        \mathcal{L}_k = 2 T w_k \, \mathrm{CE}\big(\mathrm{normalise}(\mathrm{pred}_k(x))\, z^\top / T,
        \; source + rank \cdot B\big)

    (`Multi-Level Contrastive Learning for Dense Prediction Task
    <https://arxiv.org/abs/2304.02010>`_, section 3.)

    Args:
        in_channels (int): Length ``D`` of an embedding. Defaults to 256.
        hid_channels (int): Width of a predictor's hidden layer. Defaults to 2048.
        loss_weights (Sequence[float]): ``w_k``, one per level. Defaults to (1/2, 1/4, 1/8, 1/8).
        temperature (float): ``T``. Defaults to 1.0.
        shared_predictor (bool): Have one predictor for all levels. Defaults to False.
        negatives (bool): Tell the own image from the others. Otherwise a tile is only pulled towards it,
            :math:`\mathcal{L}_k = w_k (2 - 2 \cos)` as in `BYOL <https://arxiv.org/abs/2006.07733>`_,
            and ``temperature`` has no part in it. Defaults to True.
        norm_cfg (dict): Normalisation of the predictors. Defaults to ``dict(type='BN')``.
        out_channels (int, optional): Length of a prediction. Defaults to None, ``in_channels``.

    Raises:
        ValueError: ``temperature`` is not positive.
    """

    def __init__(
        self,
        in_channels: int = 256,
        hid_channels: int = 2048,
        loss_weights: Sequence[float] = (1 / 2, 1 / 4, 1 / 8, 1 / 8),
        temperature: float = 1.0,
        shared_predictor: bool = False,
        negatives: bool = True,
        norm_cfg: dict = dict(type='BN'),
        out_channels: Optional[int] = None,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature must be positive, got {temperature}')
        self.loss_weights = loss_weights
        self.temperature = temperature
        self.negatives = negatives
        predictor = dict(
            type='mmpretrain.NonLinearNeck',
            in_channels=in_channels,
            hid_channels=hid_channels,
            out_channels=out_channels or in_channels,
            with_bias=True,
            with_last_bias=True,
            with_last_bn=False,
            with_avg_pool=False,
            norm_cfg=mlp_norm_cfg(norm_cfg),
            init_cfg=[
                dict(type='Normal', layer='Linear', std=0.01, bias=0),
                dict(type='Constant', layer=['_BatchNorm', 'GroupNorm'], val=1),
            ],
        )
        count = 1 if shared_predictor else len(loss_weights)
        self.predictors = ModuleList(MODELS.build(predictor) for _ in range(count))

    def predict(self, embedding: Tensor, level: int) -> Tensor:
        """Predictions from the embeddings ``(N, D)`` of a level's tiles."""
        return self.predictors[level if len(self.predictors) > 1 else 0]((embedding,))[0]

    def loss(
        self, online: dict[int, Tensor], sources: Sequence[Tensor], target: Tensor, side: str
    ) -> dict[str, Tensor]:
        """One side's losses on some levels.

        Args:
            online (dict[int, Tensor]): By level the online embeddings of the tiles, ``(N_k, D)``.
            sources (Sequence[Tensor]): Of every level the image each tile was made from, ``(N_k,)``,
                int64 in ``[0, B)``.
            target (Tensor): Of the other side, from :func:`gather_targets`, ``(B * world_size, D)``.
            side (str): ``'q'`` or ``'k'``, for the names.

        Returns:
            dict[str, Tensor]: Scalars. Per level ``loss_q_level_0``, which are to be summed, and,
            detached, the mean cosine to the positive, ``pos_cos_q_level_0``, and to the negatives,
            ``neg_cos_q_level_0``, and the retrieval accuracy, ``acc_q_level_0``: the share of tiles that
            are nearer to their own image than to any other, of all processes.
        """
        losses = {}
        for level, embedding in online.items():
            scalars = self.contrast(self.predict(embedding, level), sources[level], target)
            scalars['loss'] = self.loss_weights[level] * scalars['loss']
            losses.update({f'{key}_{side}_level_{level}': v for key, v in scalars.items()})
        return losses

    def contrast(self, predicted: Tensor, source: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The unweighted loss of one side and level, in float32 or better.

        Args:
            predicted (Tensor): Predictions, ``(N, D)``.
            source (Tensor): The image of this process that each shows, ``(N,)``, int64.
            target (Tensor): Normalised targets of all processes, ``(B * world_size, D)``.

        Returns:
            dict[str, Tensor]: Scalars ``loss``, ``pos_cos``, ``neg_cos`` and ``acc``.
        """
        # Half precision would round cosines to three digits.
        with torch.autocast(predicted.device.type, enabled=False):
            dtype = torch.promote_types(predicted.dtype, torch.float32)
            cosine = F.normalize(predicted.to(dtype), dim=1) @ target.to(dtype).t()
            label = source + get_rank() * (len(target) // get_world_size())
            loss = self.criterion(cosine, label)
        cosine = cosine.detach()
        positive = cosine.gather(1, label[:, None])
        negatives = (cosine.sum() - positive.sum()) / max(cosine.numel() - positive.numel(), 1)
        accuracy = (cosine.argmax(dim=1) == label).to(dtype).mean()
        return dict(loss=loss, pos_cos=positive.mean(), neg_cos=negatives, acc=accuracy)

    def criterion(self, cosine: Tensor, label: Tensor) -> Tensor:
        """The loss of some tiles of one level.

        Args:
            cosine (Tensor): Of the predictions and the targets, ``(N, B * world_size)``.
            label (Tensor): Of each prediction, which target is its own, ``(N,)``, int64.

        Returns:
            Tensor: A scalar.
        """
        if self.negatives:
            return 2 * self.temperature * F.cross_entropy(cosine / self.temperature, label)
        return 2 - 2 * cosine.gather(1, label[:, None]).mean()


@torch.no_grad()
def gather_targets(targets: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Normalise the sides' targets and collect them from all processes, in order of rank.

    Args:
        targets (Sequence[Tensor]): Of each side, ``(B, D)``, ``B`` the same on every process.

    Returns:
        tuple[Tensor]: Of each side, ``(B * world_size, D)``, without gradient.
    """
    sides = F.normalize(torch.stack(list(targets)), dim=2)
    return tuple(torch.cat(all_gather(sides), dim=1))
