"""Counts the operations of a step while it is computed."""

import math
from collections.abc import Sequence

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


def operation_counter() -> FlopCounterMode:
    """PyTorch's counter of matrix products and convolutions, with what it counts wrong put right.

    In a ``with`` statement it counts what is computed, forward and backward, and changes no value.
    Two operations are one multiply-add.
    """
    right = {
        torch.ops.aten.convolution_backward: conv_backward_flops,
        # PyTorch counts it on a GPU only.
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    }
    return FlopCounterMode(display=False, custom_mapping=right)


def attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_, **__
) -> int:
    """Operations of attention's forward pass, from the shapes of its three inputs."""
    return sdpa_flop_count(query, key, value)


def conv_backward_flops(
    grad: Sequence[int], maps: Sequence[int], weight: Sequence[int], *settings, **_
) -> int:
    """Operations of a convolution's backward pass: each gradient costs as much as the forward pass.

    PyTorch's own count of the gradient of grouped weights goes as if there were one group.

    Args:
        grad (Sequence[int]): Shape of the gradient of the output.
        maps (Sequence[int]): Shape of the input.
        weight (Sequence[int]): Shape of the weights.
        *settings: The other arguments of ``aten::convolution_backward``.
    """
    transposed, wanted = settings[4], settings[7]  # gradients of input, weight, bias
    batch, _, *places = maps if transposed else grad
    return 2 * batch * math.prod(places) * math.prod(weight) * sum(wanted[:2])
