"""What a step computes, counted operator by operator."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dataset import default_collate
from mmpretrain.structures import DataSample
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.func import functional_call

from mcl_mm.config import type_name
from mcl_mm.engine.operation_counter import operation_counter
from mcl_mm.models import MCL, DistilledMCL, MontageModel
from mcl_mm.models.montage import Montage
from mcl_mm.registry import MODELS
from mcl_mm.transfer.detector.settings import build


@MODELS.register_module()
class AuthorsMCL(MCL):
    """MCL that sends all sheets through all levels of the target too, and then reads one of them.

    The authors' code does so. Losses and gradients are those of :class:`~mcl_mm.models.MCL`.
    """

    def embed_images(self, montage: Montage) -> Tensor:
        """Target embeddings of the ``B`` full images, ``(B, D)``."""
        maps = self.target.backbone(torch.cat(montage.sheets))
        cells = self.target.neck(maps, range(len(montage.sheets)))
        return cells[0][: len(montage.sheets[0])]


def multiply_adds(model: dict, batch_size: int, side: int) -> tuple[float, float]:
    """Count the multiply-adds of a step, forward and backward, operator by operator.

    The forward pass of a teacher is part of it. Runs on tensors without values, so it takes seconds for
    a network of any size.

    Args:
        model (dict): Config of an :class:`~mcl_mm.models.MontageModel`, scope ``mcl_mm``.
        batch_size (int): Images a step.
        side (int): Of a sheet, in pixels.

    Returns:
        tuple[float, float]: Per image, of the step and of the bare backbone on one full image.

    Raises:
        ValueError: The model learns from no montage, or its montage does not fit.
    """
    model = build(model, 'mcl_mm')
    if not isinstance(model, MontageModel):
        raise ValueError(f'the model must be an MCL, got {type(model).__name__}')
    without_values = FakeTensorMode(allow_non_fake_inputs=True)
    state = {
        name: without_values.from_tensor(tensor)
        for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers())
    }

    def call(part: str, *inputs: Any, **settings: Any) -> Any:
        own = {name[len(part) :]: tensor for name, tensor in state.items() if name.startswith(part)}
        return functional_call(model.get_submodule(part.rstrip('.')), own, inputs, settings)

    with without_values:
        images = torch.empty(batch_size, model.data_preprocessor.channels or 3, side, side)
        levels = len(model.head.loss_weights)
        sides = model.data_preprocessor.montage([images] * levels, [images] * levels)
        if isinstance(model, DistilledMCL):
            size = model.teacher.size
            sides = (*sides, torch.empty(batch_size, 3, size, size))
        labels = [DataSample().set_gt_label(0)] * batch_size
        step = count(lambda: model.parse_losses(call('', sides, labels, mode='loss'))[0])
        backbone = count(lambda: call('backbone.', images)[-1].mean())
    return step / batch_size, backbone / batch_size


def multiply_adds_of_peer(model: dict, samples: list[dict]) -> float:
    """Count the multiply-adds of a method's step, forward and backward, per image.

    The step is computed, on the CPU: other methods look at values.

    Args:
        model (dict): Config of a method of mmpretrain.
        samples (list[dict]): What the data set gives; enough for batch norm.
    """
    if 'queue_len' in model:  # the queue of a run holds whole batches of its own size
        model = dict(model, queue_len=-(-model['queue_len'] // len(samples)) * len(samples))
    model = build(model, 'mcl_mm')
    data = model.data_preprocessor(default_collate(samples), True)
    return count(lambda: model.parse_losses(model(**data, mode='loss'))[0]) / len(samples)


def count(loss: Callable[[], Tensor]) -> float:
    """Multiply-adds of a loss and its gradients."""
    with operation_counter() as counter:
        loss().backward()
    return counter.get_total_flops() / 2


def side_settings(pipeline: Any) -> Iterator[tuple[ConfigDict, str]]:
    """Where in a pipeline the side of full views stands: transforms, each with the name of the argument."""
    keys = dict(NativeViews='side', RandomResizedCrop='scale')
    if isinstance(pipeline, dict):
        key = keys.get(type_name(pipeline))
        if key:
            yield pipeline, key
        pipeline = list(pipeline.values())
    if isinstance(pipeline, (list, tuple)):
        for part in pipeline:
            yield from side_settings(part)
