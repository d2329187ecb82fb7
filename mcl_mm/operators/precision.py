"""How the operators treat number types, autocast and gradients."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ['operator', 'widen']


def operator(function: Callable) -> Callable:
    """Run a function as a compiled operator runs: no gradient is recorded, nothing autocast.

    mmcv's ``autograd.Function`` classes call operators for both directions themselves, under
    whatever autocast the training step has.

    Args:
        function (Callable): Its first argument is a tensor.
    """

    @functools.wraps(function)
    def run(first: Tensor, *args: object, **kwargs: object) -> object:
        with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
            return function(first, *args, **kwargs)

    return run


def widen(*tensors: Tensor) -> list[Tensor]:
    """The tensors in the first one's number type, or in float32 where that is a 16-bit one.

    torchvision has no bfloat16 kernels and sums float16 in float16. Results are rounded once, when
    they are copied to the output.
    """
    dtype = torch.promote_types(tensors[0].dtype, torch.float32)
    return [tensor.to(dtype) for tensor in tensors]
