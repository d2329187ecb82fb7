"""Gradients before the whole loss is there, so that less of the network's maps is kept at a time."""

from contextlib import nullcontext
from typing import Any, Optional

import torch
from torch import Tensor, nn


def backpropagate(
    scalars: dict[str, Tensor], model: nn.Module, gradients: list[Optional[Tensor]]
) -> dict[str, Tensor]:
    """Compute the gradients of a part of the loss now, and free its graph.

    Whoever sums the losses of all parts and calls ``backward`` gets the same gradients as without: the
    first loss hands on those of all, times whatever the sum is scaled by. The losses must therefore
    enter the sum with one common factor, as in ``parse_losses``.

    Args:
        scalars (dict[str, Tensor]): Scalars; those whose names contain ``loss`` are to be summed.
        model (nn.Module): Whose parameters get gradients.
        gradients (list[Tensor]): Of the parts before this one, by parameter; empty for the first.
            Those of this part are added.

    Returns:
        dict[str, Tensor]: The same values.

    Raises:
        ValueError: Under float16 autocast, where unscaled gradients would vanish.
    """
    losses = {name: value for name, value in scalars.items() if 'loss' in name}
    total = sum(losses.values())
    if not total.requires_grad:  # no gradient is wanted
        return scalars
    device = total.device.type
    casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if casts and torch.get_autocast_dtype(device) == torch.float16:
        raise ValueError(
            'early_backward computes gradients before the loss scaler of float16 can act: set '
            "optim_wrapper.dtype='bfloat16', or model.early_backward=False"
        )
    parameters = [p for p in model.parameters() if p.requires_grad]
    # The backward pass does as the forward pass did, whatever autocast says meanwhile.
    with torch.autocast(device, enabled=False) if casts else nullcontext():
        added = torch.autograd.grad(total, parameters, allow_unused=True)
    detached = {name: value.detach() for name, value in scalars.items()}
    if gradients:
        for index, (gradient, more) in enumerate(zip(gradients, added)):
            gradients[index] = (
                more if gradient is None else gradient if more is None else gradient.add_(more)
            )
        return detached
    gradients.extend(added)
    first = next(iter(losses))
    return {**detached, first: Backpropagated.apply(detached[first], gradients, *parameters)}


class Backpropagated(torch.autograd.Function):
    """A scalar with gradients that are computed elsewhere, before ``backward`` is called."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list, *parameters: Tensor) -> Tensor:
        """The value."""
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple:
        """The gradients times that of the value."""
        return None, None, *(g if g is None else g * scale for g in ctx.gradients)
