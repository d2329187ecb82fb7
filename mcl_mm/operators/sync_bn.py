"""The steps of mmcv's own synchronised batch norm, ``MMSyncBN``.

mmcv adds up statistics over the processes between the steps. Activations are [N, C, L]; statistics
are [C] and float32.
"""

from torch import Tensor

from .precision import operator, widen

__all__ = [
    'sync_bn_backward_data',
    'sync_bn_backward_param',
    'sync_bn_forward_mean',
    'sync_bn_forward_output',
    'sync_bn_forward_var',
]


@operator
def sync_bn_forward_mean(input: Tensor, mean: Tensor) -> None:
    """Write the mean of each channel."""
    mean.copy_(input.mean((0, 2), dtype=mean.dtype))


@operator
def sync_bn_forward_var(input: Tensor, mean: Tensor, var: Tensor) -> None:
    """Write the mean squared distance of each channel from ``mean``."""
    (wide,) = widen(input)
    var.copy_((wide - mean[:, None]).square().mean((0, 2)))


@operator
def sync_bn_forward_output(
    input: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    norm: Tensor,
    std: Tensor,
    output: Tensor,
    *,
    eps: float,
    momentum: float | Tensor,
    group_size: int,
) -> None:
    """Normalise, and update the running statistics.

    Args:
        input (Tensor): Activations.
        mean (Tensor): Mean over all processes.
        var (Tensor): Variance over all processes, biased.
        weight (Tensor | None): [C] factor.
        bias (Tensor | None): [C] summand.
        running_mean (Tensor | None): Moved by ``momentum`` towards ``mean``.
        running_var (Tensor | None): Moved towards the unbiased variance.
        norm (Tensor): Overwritten: activations before weight and bias, float32.
        std (Tensor): [C], overwritten.
        output (Tensor): Overwritten.
        eps (float): Added to the variance.
        momentum (float | Tensor): Share of the new statistics.
        group_size (int): Number of processes.
    """
    (wide,) = widen(input)
    std.copy_((var + eps).sqrt())
    norm.copy_((wide - mean[:, None]) / std[:, None])
    output.copy_(norm if weight is None else norm * weight[:, None] + bias[:, None])
    if running_mean is not None:
        count = input.shape[0] * input.shape[2] * group_size
        unbiased = var * count / (count - 1) if count > 1 else var
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (unbiased - running_var)


@operator
def sync_bn_backward_param(
    grad_output: Tensor, norm: Tensor, grad_weight: Tensor, grad_bias: Tensor
) -> None:
    """Write the gradients of weight and bias; ``norm`` is that of the forward."""
    (wide,) = widen(grad_output)
    grad_weight.copy_((wide * norm).sum((0, 2)))
    grad_bias.copy_(wide.sum((0, 2)))


@operator
def sync_bn_backward_data(
    grad_output: Tensor,
    weight: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    norm: Tensor,
    std: Tensor,
    grad_input: Tensor,
) -> None:
    """Write the gradient of the activations.

    Args:
        grad_output (Tensor): Of the output.
        weight (Tensor): [C].
        grad_weight (Tensor): [C] mean over the processes.
        grad_bias (Tensor): [C] mean over the processes.
        norm (Tensor): Of the forward.
        std (Tensor): [C] of the forward.
        grad_input (Tensor): Overwritten.
    """
    (wide,) = widen(grad_output)
    count = grad_output.shape[0] * grad_output.shape[2]
    common = (norm * grad_weight[:, None] + grad_bias[:, None]) / count
    grad_input.copy_((wide - common) * (weight / std)[:, None])
