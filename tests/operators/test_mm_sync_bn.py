"""MMSyncBN's steps in one process against PyTorch's batch norm."""

import torch
import torch.nn.functional as F
from references import draw

from mcl_mm.operators import sync_bn as operators


def test_values_running_statistics_and_gradients():
    x, weight, bias = draw(3, 4, 10), draw(4, seed=1), draw(4, seed=2)
    running = [torch.zeros(4).double(), torch.ones(4).double()]
    wanted_running = [statistic.clone() for statistic in running]
    expected = F.batch_norm(x, *wanted_running, weight, bias, training=True, momentum=0.3, eps=1e-3)
    mean, var, std = (torch.empty(4).double() for _ in range(3))
    norm, output = torch.empty(3, 4, 10).double(), torch.empty(3, 4, 10).double()
    operators.sync_bn_forward_mean(x, mean)
    operators.sync_bn_forward_var(x, mean, var)
    operators.sync_bn_forward_output(
        x,
        mean,
        var,
        weight,
        bias,
        *running,
        norm,
        std,
        output,
        eps=1e-3,
        momentum=torch.tensor([0.3]),
        group_size=1,
    )
    torch.testing.assert_close(output, expected.detach())
    torch.testing.assert_close(running, wanted_running)

    grad = torch.randn_like(output)
    wanted = torch.autograd.grad((expected * grad).sum(), [x, weight, bias])
    by_weight, by_bias, by_x = (torch.empty_like(t) for t in (wanted[1], wanted[2], wanted[0]))
    operators.sync_bn_backward_param(grad, norm, by_weight, by_bias)
    operators.sync_bn_backward_data(grad, weight, by_weight, by_bias, norm, std, by_x)
    torch.testing.assert_close([by_x, by_weight, by_bias], list(wanted))


def test_two_processes_share_the_unbiased_variance():
    var, running = torch.tensor([2.0]), [torch.zeros(1), torch.zeros(1)]
    unused = [torch.empty(1, 1, 2), torch.empty(1), torch.empty(1, 1, 2)]
    operators.sync_bn_forward_output(
        torch.zeros(1, 1, 2),
        torch.ones(1),
        var,
        None,
        None,
        *running,
        *unused,
        eps=0.0,
        momentum=1.0,
        group_size=2,
    )
    assert running[0].item() == 1.0
    torch.testing.assert_close(running[1].item(), 2.0 * 4 / 3)
