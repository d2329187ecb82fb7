"""Gradients before the whole loss is there, so that less of the network's maps is kept at a time."""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Optional

import torch
from torch import Tensor, nn


def backpropagate(parts: Iterable[dict[str, Tensor]], model: nn.Module) -> dict[str, Tensor]:
    """Compute the gradients of each part of a loss, and free its graph, before the next part is made.

    Whoever sums the losses of all parts and calls ``backward`` gets the same gradients as without: the
    first loss hands on those of all, times whatever the sum is scaled by. The losses must therefore
    enter the sum with one common factor, as in ``parse_losses``.

    Args:
        parts (Iterable[dict[str, Tensor]]): Scalars, made when asked for; those whose names contain
            ``loss`` are to be summed.
        model (nn.Module): Whose parameters get gradients.

    Returns:
        dict[str, Tensor]: The scalars of all parts.

    Raises:
        ValueError: Under float16 autocast, where unscaled gradients would vanish.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    scalars, gradients = {}, None
    for part in parts:
        total = sum(value for name, value in part.items() if 'loss' in name)
        if total.requires_grad:
            gradients = add(gradients, differentiate(total, parameters))
        scalars.update({name: value.detach() for name, value in part.items()})
    if gradients is not None:
        first = next(name for name in scalars if 'loss' in name)
        scalars[first] = Backpropagated.apply(scalars[first], gradients, *parameters)
    return scalars


def differentiate(total: Tensor, parameters: list[Tensor]) -> list[Optional[Tensor]]:
    """The gradients of a scalar in the precision of its forward pass; None where there is none."""
    device = total.device.type
    casts = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if casts and torch.get_autocast_dtype(device) == torch.float16:
        raise ValueError(
            'early_backward computes gradients before the loss scaler of float16 can act: set '
            "optim_wrapper.dtype='bfloat16', or model.early_backward=False"
        )
    # The backward pass does as the forward pass did, whatever autocast says meanwhile.
    with torch.autocast(device, enabled=False) if casts else nullcontext():
        return list(torch.autograd.grad(total, parameters, allow_unused=True))


def add(
    sums: Optional[list[Optional[Tensor]]], more: list[Optional[Tensor]]
) -> list[Optional[Tensor]]:
    """Sums of gradients, in place of the first; None is nothing."""
    if sums is None:
        return more
    return [b if a is None else a if b is None else a.add_(b) for a, b in zip(sums, more)]


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
