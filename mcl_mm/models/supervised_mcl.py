"""The supervised extension: tiles are classified by the label of the image they show."""

from collections.abc import Sequence
from typing import Optional

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, ModuleList
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mcl_mm.registry import MODELS

from .montage import Montage
from .montage_model import MontageModel


@MODELS.register_module()
class SupervisedMCL(MontageModel):
    """MCL with labels: the same montage and levels, no target.

    The supervised extension of `Multi-Level Contrastive Learning for Dense Prediction Task
    <https://arxiv.org/abs/2304.02010>`_. See :class:`MontageModel` for the arguments; ``head`` is a
    :class:`MultiLevelClassificationHead`. The neck's ``track_level=0`` lets plain images be classified:
    running statistics are then those of full images.
    """

    def loss(
        self, inputs: tuple[Montage, Montage], data_samples: list[DataSample]
    ) -> dict[str, Tensor]:
        """The loss of a batch, the mean of both sides.

        Args:
            inputs (tuple[Montage, Montage]): Sides *q* and *k*, from the data preprocessor.
            data_samples (list[DataSample]): Of the ``B`` images, with ``gt_label``.

        Returns:
            dict[str, Tensor]: :meth:`MultiLevelClassificationHead.loss` of both sides.
        """
        labels = torch.cat([sample.gt_label for sample in data_samples])
        labels = labels.to(inputs[0].sheets[0].device)
        return self.merge(
            self.head.loss(
                self.embed_tiles(side, levels), [labels[source] for source in side.sources], name
            )
            for name, side in zip('qk', inputs)
            for levels in self.level_groups
        )

    def predict(self, inputs: Tensor, data_samples: list[DataSample]) -> list[DataSample]:
        """Classify plain images by level 0.

        Args:
            inputs (Tensor): Normalised images, ``(N, 3, S, S)``.
            data_samples (list[DataSample]): Of the images.

        Returns:
            list[DataSample]: The same, with ``pred_score`` (``(num_classes,)``) and ``pred_label``.
        """
        (embedding,) = self.neck(self.backbone(inputs), [0])
        scores = self.head.classifiers[0](embedding).float().softmax(dim=1)
        for sample, score in zip(data_samples, scores):
            sample.set_pred_score(score).set_pred_label(score.argmax())
        return data_samples

    def forward(
        self,
        inputs: object,
        data_samples: Optional[list[DataSample]] = None,
        mode: str = 'tensor',
    ) -> object:
        """The entry of mmpretrain for ``'tensor'`` and ``'loss'``, and for ``'predict'``."""
        if mode == 'predict':
            return self.predict(inputs, data_samples)
        return super().forward(inputs, data_samples, mode)


@MODELS.register_module()
class MultiLevelClassificationHead(BaseModule):
    r"""A linear classifier per level on the embeddings of the tiles.

    .. math:: \mathcal{L}_k = w_k\, \mathrm{CE}(W_k x + b_k, label(source)) / 2

    on each of the two sides.

    Args:
        num_classes (int): Classes.
        in_channels (int): Length ``D`` of an embedding. Defaults to 256.
        loss_weights (Sequence[float]): ``w_k``, one per level. Defaults to (1/2, 1/4, 1/8, 1/8).
        label_smooth_val (float): Share of the label that all classes get alike. Defaults to 0.

    Raises:
        ValueError: Fewer than two classes, or a share outside [0, 1).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 256,
        loss_weights: Sequence[float] = (1 / 2, 1 / 4, 1 / 8, 1 / 8),
        label_smooth_val: float = 0.0,
    ) -> None:
        super().__init__(dict(type='Normal', layer='Linear', std=0.01))
        if num_classes < 2:
            raise ValueError(f'num_classes must be at least 2, got {num_classes}')
        if not 0 <= label_smooth_val < 1:
            raise ValueError(f'label_smooth_val must lie in [0, 1), got {label_smooth_val}')
        self.num_classes = num_classes
        self.loss_weights = loss_weights
        self.label_smooth_val = label_smooth_val
        self.classifiers = ModuleList(nn.Linear(in_channels, num_classes) for _ in loss_weights)

    def loss(
        self, embeddings: dict[int, Tensor], labels: Sequence[Tensor], side: str
    ) -> dict[str, Tensor]:
        """One side's losses on some levels, in float32 or better.

        Args:
            embeddings (dict[int, Tensor]): By level those of the tiles, ``(N_k, D)``.
            labels (Sequence[Tensor]): Of every level those of the tiles, ``(N_k,)``, int64.
            side (str): ``'q'`` or ``'k'``, for the names.

        Returns:
            dict[str, Tensor]: Scalars: ``loss_q_level_0``, ..., which are to be summed, and, detached,
            the share of tiles whose class is found, ``acc_q_level_0``, ...
        """
        scalars = {}
        for level, embedding in embeddings.items():
            scores, label = self.classifiers[level](embedding), labels[level]
            with torch.autocast(scores.device.type, enabled=False):
                scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
                loss = F.cross_entropy(scores, label, label_smoothing=self.label_smooth_val)
            accuracy = (scores.detach().argmax(dim=1) == label).to(scores.dtype).mean()
            scalars[f'loss_{side}_level_{level}'] = self.loss_weights[level] * loss / 2
            scalars[f'acc_{side}_level_{level}'] = accuracy
        return scalars
