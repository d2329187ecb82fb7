"""Deformable convolutions, versions 1 and 2.

mmcv names the sizes of version 1 ``kW, kH, dW, dH, padW, padH, dilationW, dilationH, group,
deformable_group, im2col_step`` and those of version 2 ``kernel_h, kernel_w, stride_h, stride_w,
pad_h, pad_w, dilation_h, dilation_w, group, deformable_group``. The functions take them as
``**sizes``. The size of the kernel is the weight's; ``im2col_step`` is not used, torchvision
chooses how many images it unfolds at once.
"""

import torch
from torch import Tensor

from .precision import operator, widen

__all__ = [
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
]

# Stride, padding, dilation, groups of channels, and groups of input channels that share offsets:
# in torchvision's order, by the names of mmcv's version 1 and 2.
GEOMETRY = (
    ('dH', 'stride_h'),
    ('dW', 'stride_w'),
    ('padH', 'pad_h'),
    ('padW', 'pad_w'),
    ('dilationH', 'dilation_h'),
    ('dilationW', 'dilation_w'),
    ('group', 'group'),
    ('deformable_group', 'deformable_group'),
)


def _arguments(
    sizes: dict[str, int],
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> list[Tensor | int]:
    """What torchvision's deformable convolution and its backward take."""
    version = 0 if 'dH' in sizes else 1
    geometry = [sizes[names[version]] for names in GEOMETRY]
    bias = input.new_zeros(len(weight)) if bias is None else bias
    if mask is None:
        return [input, weight, offset, input.new_zeros(len(input), 1), bias, *geometry, False]
    return [input, weight, offset, mask, bias, *geometry, True]


@operator
def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **sizes: int,
) -> None:
    """Write a deformable convolution (version 1) into ``output``.

    Args:
        input (Tensor): [B, C, H, W].
        weight (Tensor): [O, C / groups, h, w].
        offset (Tensor): [B, deform groups * h * w * 2, H', W'] in pixels, y before x.
        output (Tensor): [B, O, H', W'], overwritten.
        columns (Tensor): Not used.
        ones (Tensor): Not used.
        **sizes (int): See the module.
    """
    arguments = _arguments(sizes, *widen(input, weight, offset))
    output.copy_(torch.ops.torchvision.deform_conv2d(*arguments))


@operator
def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **sizes: int,
) -> None:
    """Add to the gradients of input and offsets; shapes as in :func:`deform_conv_forward`.

    Args:
        input (Tensor): Input.
        offset (Tensor): Offsets.
        grad_output (Tensor): Gradient of the output.
        grad_input (Tensor): Added to.
        grad_offset (Tensor): Added to.
        weight (Tensor): Weight.
        columns (Tensor): Memory that mmcv hands to :func:`deform_conv_backward_parameters` next.
            torchvision computes the gradient of the weight at the same time; it waits there.
        **sizes (int): See the module.
    """
    grad, *tensors = widen(grad_output, input, weight, offset)
    by_input, by_weight, by_offset, *_ = torch.ops.torchvision._deform_conv2d_backward(
        grad, *_arguments(sizes, *tensors)
    )
    grad_input += by_input
    grad_offset += by_offset
    columns.set_(by_weight.to(columns))


@operator
def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    *,
    scale: float,
    **sizes: int,
) -> None:
    """Add ``scale`` times the gradient of the weight; shapes as in :func:`deform_conv_forward`.

    Args:
        input (Tensor): Input.
        offset (Tensor): Offsets.
        grad_output (Tensor): Gradient of the output.
        grad_weight (Tensor): Added to.
        columns (Tensor): The gradient where :func:`deform_conv_backward_input` left it, or empty;
            empty afterwards.
        ones (Tensor): Not used.
        scale (float): Factor on the gradient.
        **sizes (int): See the module.
    """
    by_weight = columns
    if not columns.numel():
        # the weight itself has no part in its gradient
        grad, *tensors = widen(grad_output, input, torch.zeros_like(grad_weight), offset)
        by_weight = torch.ops.torchvision._deform_conv2d_backward(
            grad, *_arguments(sizes, *tensors)
        )[1]
    grad_weight.add_(by_weight, alpha=scale)
    columns.set_()


def _as_read(tensor: Tensor, output: Tensor) -> Tensor:
    """A view of offsets or factors in the size of the output.

    mmcv's version 2 does not ask for that size: it reads each image's numbers in their order in
    memory. The heads of DyHead, whose weights were trained so, give it those of a larger map.

    Args:
        tensor (Tensor): [B, K, ...] contiguous.
        output (Tensor): [B, O, H', W'].

    Returns:
        Tensor: [B, K, H', W'].
    """
    batch, channels = tensor.shape[:2]
    size = output.shape[2:]
    if tensor.shape[2:] == size:
        return tensor
    return tensor.view(batch, -1)[:, : channels * size.numel()].unflatten(1, (channels, *size))


@operator
def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Write a modulated deformable convolution (version 2) into ``output``.

    Args:
        input (Tensor): [B, C, H, W].
        weight (Tensor): [O, C / groups, h, w].
        bias (Tensor): [O], not read unless ``with_bias``.
        ones (Tensor): Not used.
        offset (Tensor): [B, deform groups * h * w * 2, H', W'] in pixels, y before x.
        mask (Tensor): [B, deform groups * h * w, H', W'] factors.
        output (Tensor): [B, O, H', W'], overwritten.
        columns (Tensor): Not used.
        with_bias (bool): Whether to add the bias.
        **sizes (int): See the module.
    """
    input, weight, offset, mask, bias = widen(input, weight, offset, mask, bias)
    offset, mask = _as_read(offset, output), _as_read(mask, output)
    arguments = _arguments(sizes, input, weight, offset, mask, bias if with_bias else None)
    output.copy_(torch.ops.torchvision.deform_conv2d(*arguments))


@operator
def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    *,
    with_bias: bool,
    **sizes: int,
) -> None:
    """Add to the five gradients; the rest is as in :func:`modulated_deform_conv_forward`."""
    grad, input, weight, offset, mask = widen(grad_output, input, weight, offset, mask)
    offset, mask = _as_read(offset, grad_output), _as_read(mask, grad_output)
    gradients = torch.ops.torchvision._deform_conv2d_backward(
        grad, *_arguments(sizes, input, weight, offset, mask)
    )
    grad_offset, grad_mask = _as_read(grad_offset, grad_output), _as_read(grad_mask, grad_output)
    totals = [grad_input, grad_weight, grad_offset, grad_mask, grad_bias]
    for total, part in zip(totals[: 4 + with_bias], gradients, strict=False):
        total += part
