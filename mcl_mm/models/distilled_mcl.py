"""MCL with a teacher in place of the moving average."""

from typing import Optional

import torch
import torch.nn.functional as F
from mmengine.dist import all_gather
from mmpretrain.structures import DataSample
from torch import Tensor

from mcl_mm.registry import MODELS

from .montage import Montage
from .montage_data_preprocessor import MontageDataPreprocessor
from .montage_model import MontageModel
from .multi_level_contrastive_head import MultiLevelContrastiveHead


@MODELS.register_module()
class DistilledMCL(MontageModel):
    """Every tile of every level predicts a teacher's embedding of the whole image it was made from.

    The montage, the levels and their weights are those of `Multi-Level Contrastive Learning for Dense
    Prediction Task <https://arxiv.org/abs/2304.02010>`_; the target is a network that does not learn.

    Args:
        teacher (dict): A :class:`Teacher`.
        head (dict): A :class:`DistillationHead`. Without ``out_channels`` it gets those of the teacher.
        **kwargs: ``backbone``, ``neck``, ``data_preprocessor`` (a :class:`DistillationDataPreprocessor`)
            and the rest of :class:`MontageModel`.
    """

    def __init__(self, teacher: dict, head: dict, **kwargs) -> None:
        teacher = MODELS.build(teacher)
        if 'out_channels' not in head:
            head = dict(head, out_channels=teacher.channels)
        super().__init__(head=head, **kwargs)
        self.teacher = teacher

    def init_weights(self) -> None:
        """Initialise the student and load the teacher."""
        super().init_weights()
        self.teacher.init_weights()

    def loss(
        self,
        inputs: tuple[Montage, Montage, Tensor],
        data_samples: Optional[list[DataSample]] = None,
    ) -> dict[str, Tensor]:
        """The loss of a batch: both sides' tiles against the teacher's embeddings.

        Args:
            inputs (tuple[Montage, Montage, Tensor]): Sides *q* and *k*, and the whole images for the
                teacher, from the data preprocessor.
            data_samples (list[DataSample], optional): Not used.

        Returns:
            dict[str, Tensor]: :meth:`DistillationHead.loss` of both sides.
        """
        *sides, images = inputs
        target = centre(self.teacher(images))
        return self.merge(
            self.head.loss(self.embed_tiles(side, levels), side.sources, target, name)
            for name, side in zip('qk', sides)
            for levels in self.level_groups
        )


@torch.no_grad()
def centre(embeddings: Tensor) -> Tensor:
    """Collect a teacher's embeddings from all processes, take away their mean and normalise them.

    What all images of a batch share says nothing about any of them, and is most of what a pooled map of
    positive features holds: without this step two images have a cosine of nearly 1.

    Args:
        embeddings (Tensor): ``(B, D)``, ``B`` the same on every process.

    Returns:
        Tensor: ``(B * world_size, D)``, in order of rank.
    """
    gathered = torch.cat(all_gather(embeddings))
    return F.normalize(gathered - gathered.mean(dim=0), dim=1)


@MODELS.register_module()
class DistillationHead(MultiLevelContrastiveHead):
    r"""Draw every tile's prediction to the teacher's embedding of its image, and tell it from the others.

    With the teacher's embeddings ``z`` of :func:`centre`, and ``p`` the l2-normalised prediction of a tile
    of image ``s`` by the predictor of level ``k``,

    .. math::
        \mathcal{L}_k = w_k \big(a\,(2 - 2\, p^\top z_s) + b\, 2T\, \mathrm{CE}(z p / T,\; s)\big)

    Args:
        out_channels (int): Length of the teacher's embeddings.
        cosine_weight (float): ``a``. Defaults to 1.0.
        contrast_weight (float): ``b``. Defaults to 1.0.
        temperature (float): ``T``. Defaults to 0.1.
        **kwargs: ``in_channels``, ``hid_channels``, ``loss_weights``, ``shared_predictor`` and ``norm_cfg``
            of :class:`MultiLevelContrastiveHead`.

    Raises:
        ValueError: A weight is negative, or both are 0; ``temperature`` is not positive.
    """

    def __init__(
        self,
        out_channels: int,
        cosine_weight: float = 1.0,
        contrast_weight: float = 1.0,
        temperature: float = 0.1,
        **kwargs,
    ) -> None:
        if min(cosine_weight, contrast_weight) < 0 or cosine_weight + contrast_weight <= 0:
            raise ValueError(
                'cosine_weight and contrast_weight must not be negative, and not both 0, got '
                f'{cosine_weight} and {contrast_weight}'
            )
        # Not the loss of the base class with negatives, whose value at chance is known.
        super().__init__(
            out_channels=out_channels, temperature=temperature, negatives=False, **kwargs
        )
        self.cosine_weight, self.contrast_weight = cosine_weight, contrast_weight

    def criterion(self, cosine: Tensor, label: Tensor) -> Tensor:
        """The loss of some tiles of one level, see the class and the method of the base class."""
        positive = cosine.gather(1, label[:, None]).mean()
        contrast = F.cross_entropy(cosine / self.temperature, label)
        return (
            self.cosine_weight * (2 - 2 * positive)
            + self.contrast_weight * 2 * self.temperature * contrast
        )


@MODELS.register_module()
class DistillationDataPreprocessor(MontageDataPreprocessor):
    """A :class:`MontageDataPreprocessor` that hands on what is for the teacher, as it is.

    See there for the arguments.
    """

    def forward(self, data: dict, training: bool = False) -> dict:
        """Assemble a batch.

        Args:
            data (dict): ``inputs``: the views of a batch, and behind them what
                :class:`~mcl_mm.datasets.TeacherView` has added; or plain images, which are normalised.
            training (bool): Not used. Defaults to False.

        Returns:
            dict: ``inputs``: ``(Montage, Montage, Tensor)``, or images; ``data_samples``.

        Raises:
            ValueError: There is nothing for the teacher; or see :class:`MontageDataPreprocessor`.
        """
        if torch.is_tensor(data['inputs']):
            return super().forward(data, training)
        if len(data['inputs']) % 2 == 0:
            raise ValueError(
                'the batch has no images for the teacher: put the transform that makes the views into '
                "dict(type='TeacherView', size=..., views=...) in train_dataloader.dataset.pipeline"
            )
        *views, images = data['inputs']
        batch = super().forward(dict(data, inputs=views), training)
        return dict(batch, inputs=(*batch['inputs'], self.cast_data(images)))
