"""Multi-scale deformable attention, from the PyTorch version that mmcv has for the CPU."""

import torch
from torch import Tensor

from .precision import operator, widen

__all__ = ['ms_deform_attn_backward', 'ms_deform_attn_forward']


def _attend(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    # imported here: the operators are there before mmcv.ops is
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, shapes.tolist(), locations, weights)


@operator
def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    *,
    im2col_step: int,
) -> Tensor:
    """Weighted sum of features at places of several maps.

    Args:
        value (Tensor): [B, K, heads, D] features of all levels, one after the other.
        value_spatial_shapes (Tensor): [L, 2] int64 height and width of each level.
        value_level_start_index (Tensor): Not used: levels follow one another.
        sampling_locations (Tensor): [B, Q, heads, L, P, 2] x, y as shares of a level's size.
        attention_weights (Tensor): [B, Q, heads, L, P].
        im2col_step (int): Not used.

    Returns:
        Tensor: [B, Q, heads * D] in the number type of ``value``.
    """
    wide = widen(value, sampling_locations, attention_weights)
    return _attend(wide[0], value_spatial_shapes, *wide[1:]).to(value.dtype)


@operator
def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    *,
    im2col_step: int,
) -> None:
    """Add to the gradients of features, places and weights.

    Args:
        grad_output (Tensor): [B, Q, heads * D]; the others are as in
            :func:`ms_deform_attn_forward`.
    """
    wide = widen(value, sampling_locations, attention_weights)
    wide = [tensor.detach().requires_grad_() for tensor in wide]
    with torch.enable_grad():
        output = _attend(wide[0], value_spatial_shapes, *wide[1:])
    gradients = torch.autograd.grad(output, wide, grad_output.to(output.dtype))
    for total, part in zip(
        (grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True
    ):
        total += part
