"""Focal losses, in closed form.

torchvision's ``sigmoid_focal_loss`` is not used: it wants one-hot targets, knows no class weights,
and its gradient is not finite where ``gamma < 1`` meets a saturated score.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import operator, widen

__all__ = [
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
]


def _true_side(x: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Per score: the sign that makes it the score of the truth, and its share of ``alpha``.

    Args:
        x (Tensor): [N, C] scores.
        target (Tensor): [N] class of each sample; any number outside of 0..C-1 is background.
        alpha (float): Weight of the positives; negatives have ``1 - alpha``.

    Returns:
        tuple[Tensor, Tensor]: Two [N, C] tensors.
    """
    positive = target[:, None] == torch.arange(x.shape[1], device=x.device)
    return positive.to(x) * 2 - 1, torch.where(positive, alpha, 1 - alpha).to(x)


def _class_weight(weight: Tensor, target: Tensor) -> Tensor | float:
    """[N] weight of each sample's class, 1 for the background, which has none."""
    if not weight.numel():
        return 1.0
    known = (target >= 0) & (target < len(weight))
    return torch.where(known, weight[target.clamp(0, len(weight) - 1)], 1.0)


def _per_row(weight: Tensor | float) -> Tensor | float:
    return weight[:, None] if isinstance(weight, Tensor) else weight


@operator
def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the loss of each score.

    Args:
        input (Tensor): [N, C] scores before the sigmoid.
        target (Tensor): [N] int64 classes; C is background.
        weight (Tensor): [C] weights of the classes, or empty.
        output (Tensor): [N, C], overwritten: ``-a (1 - p)^gamma log p`` with ``p`` the
            probability of the truth, and ``a`` alpha for positives, ``1 - alpha`` for negatives.
        gamma (float): Exponent.
        alpha (float): Weight of positives.
    """
    x, weight = widen(input, weight)
    sign, share = _true_side(x, target, alpha)
    log_p = F.logsigmoid(sign * x)
    loss = -share * (-torch.expm1(log_p)).pow(gamma) * log_p
    output.copy_(loss * _per_row(_class_weight(weight, target)))


@operator
def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the derivative of each score's loss into ``grad_input``; arguments as forward."""
    x, weight = widen(input, weight)
    sign, share = _true_side(x, target, alpha)
    log_p = F.logsigmoid(sign * x)
    miss = -torch.expm1(log_p)
    slope = miss.pow(gamma) * (gamma * log_p.exp() * log_p - miss)
    grad_input.copy_(sign * share * slope * _per_row(_class_weight(weight, target)))


def _truth(softmax: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """[N] probability of each sample's class, and whether the sample counts (target >= 0)."""
    index = target.clamp(min=0)[:, None]
    return softmax.gather(1, index).squeeze(1), target >= 0


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=torch.finfo(torch.float32).tiny).log()


@operator
def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, *, gamma: float, alpha: float
) -> None:
    """Write the loss of each sample.

    Args:
        input (Tensor): [N, C] probabilities, after the softmax.
        target (Tensor): [N] int64 classes; a negative one costs nothing.
        weight (Tensor): [C] weights of the classes, or empty.
        output (Tensor): [N], overwritten: ``-alpha (1 - p)^gamma log p``.
        gamma (float): Exponent.
        alpha (float): Factor.
    """
    softmax, weight = widen(input, weight)
    p, counts = _truth(softmax, target)
    loss = -alpha * (1 - p).pow(gamma) * _log(p) * _class_weight(weight, target)
    output.copy_(torch.where(counts, loss, 0.0))


@operator
def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    *,
    gamma: float,
    alpha: float,
) -> None:
    """Write the derivative by the scores before the softmax.

    Args:
        input (Tensor): [N, C] probabilities, as in forward; so are the arguments not named here.
        target (Tensor): [N].
        weight (Tensor): [C] or empty.
        buff (Tensor): [N], overwritten: ``p`` times the derivative by ``p``.
        grad_input (Tensor): [N, C], overwritten.
        gamma (float): Exponent.
        alpha (float): Factor.
    """
    softmax, weight = widen(input, weight)
    p, counts = _truth(softmax, target)
    miss = 1 - p
    # 0^(gamma - 1) is infinite for gamma < 1, yet log(1) = 0 beside it
    steep = torch.where(miss > 0, gamma * miss.pow(gamma - 1) * p * _log(p), 0.0)
    slope = alpha * (steep - miss.pow(gamma)) * _class_weight(weight, target)
    slope = torch.where(counts, slope, 0.0)
    buff.copy_(slope)
    hit = target[:, None] == torch.arange(softmax.shape[1], device=softmax.device)
    grad_input.copy_(slope[:, None] * (hit.to(softmax) - softmax))
