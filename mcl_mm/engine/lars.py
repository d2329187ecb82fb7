"""LARS that never waits for the device."""

from collections import defaultdict
from collections.abc import Callable
from typing import Optional

import torch
from mmpretrain.engine import optimizers
from torch import Tensor, nn

from mcl_mm.registry import OPTIMIZERS

SETTINGS = ('lr', 'momentum', 'dampening', 'weight_decay', 'nesterov', 'eta', 'lars_exclude')


@OPTIMIZERS.register_module()
class LARS(optimizers.LARS):
    """mmpretrain's LARS, computed for all parameters at once and on their device.

    The library's reads two norms of every layer back to the host, at every step. Arguments, formula,
    ``lars_exclude`` and checkpoints are the same; the layers' rates are in float32 instead of
    float64 (results agree within 1e-6). Parameter groups with equal settings are updated together:
    MMEngine's ``paramwise_cfg`` makes a group of every parameter.
    """

    @torch.compiler.disable  # it would be compiled again for every learning rate
    @torch.no_grad()
    def step(self, closure: Optional[Callable] = None) -> Optional[Tensor]:
        """Update the parameters that have a gradient.

        Args:
            closure (Callable, optional): Evaluates the model again and returns the loss. Defaults
                to None.

        Returns:
            Tensor, optional: What ``closure`` returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        alike = defaultdict(list)
        for group in self.param_groups:
            settings = {key: value for key, value in group.items() if key in SETTINGS}
            for p in group['params']:
                if p.grad is not None:
                    fresh = 'momentum_buffer' not in self.state.get(p, {})
                    alike[(*settings.items(), fresh, p.device, p.dtype)].append(p)
        for (*settings, fresh, _, _), parameters in alike.items():
            self.update(parameters, fresh, **dict(settings))
        return loss

    def update(
        self,
        parameters: list[nn.Parameter],
        fresh: bool,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
        eta: float,
        lars_exclude: bool = False,
    ) -> None:
        r"""Update parameters with the same settings.

        .. math::
            b \leftarrow \mu b + (1 - \tau) \lambda\, lr\, (g + w p), \qquad p \leftarrow p - b,
            \qquad \lambda = \frac{\eta \|p\|}{\|g\| + w \|p\| + \epsilon}

        (`Large Batch Training of Convolutional Networks <https://arxiv.org/abs/1708.03888>`_), where
        :math:`\lambda` is 1 for excluded parameters and where a norm is 0.

        Args:
            parameters (list[nn.Parameter]): On one device, of one dtype.
            fresh (bool): They have no momentum buffer yet, and get :math:`b` without :math:`\tau`.
            lr, momentum, dampening, weight_decay, nesterov, eta, lars_exclude: As in a parameter
                group.
        """
        gradients = [p.grad for p in parameters]
        delta = torch._foreach_add(gradients, parameters, alpha=weight_decay)
        if lars_exclude:
            torch._foreach_mul_(delta, lr)
        else:
            weight_norm = torch.stack(torch._foreach_norm(parameters))
            gradient_norm = torch.stack(torch._foreach_norm(gradients))
            rate = eta * weight_norm / (gradient_norm + weight_decay * weight_norm + self.eps)
            rate = torch.where((weight_norm != 0) & (gradient_norm != 0), rate, 1) * lr
            torch._foreach_mul_(delta, rate.unbind())
        if momentum != 0:
            if fresh:
                for p, d in zip(parameters, delta):
                    self.state[p]['momentum_buffer'] = d.clone()
            buffers = [self.state[p]['momentum_buffer'] for p in parameters]
            if not fresh:
                torch._foreach_mul_(buffers, momentum)
                torch._foreach_add_(buffers, delta, alpha=1 - dampening)
            if nesterov:
                torch._foreach_add_(delta, buffers, alpha=momentum)
            else:
                delta = buffers
        torch._foreach_sub_(parameters, delta)
