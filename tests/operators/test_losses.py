"""Focal losses against the formula on single numbers; gradients from its autograd."""

import pytest
import torch
from references import draw

from mcl_mm.operators import losses as operators

TARGET = torch.tensor([0, 2, 3, 1, 3, 0])  # of 3 classes; 3 is background


def slow_sigmoid(scores, target, gamma, alpha, weight):
    rows = []
    for i, row in enumerate(scores):
        for c, score in enumerate(row):
            p = torch.sigmoid(score)
            truth, share = (p, alpha) if target[i] == c else (1 - p, 1 - alpha)
            loss = -share * (1 - truth) ** gamma * truth.log()
            rows.append(loss * (weight[target[i]] if target[i] < len(weight) else 1))
    return torch.stack(rows).view_as(scores)


@pytest.mark.parametrize('gamma', [2.0, 0.5, 0.0])
@pytest.mark.parametrize('weight', [[], [0.5, 2.0, 3.0]])
def test_sigmoid_focal_loss(weight, gamma):
    scores, weight = draw(6, 3), torch.tensor(weight, dtype=torch.float64)
    output, gradient = torch.empty(6, 3).double(), torch.empty(6, 3).double()
    arguments = dict(gamma=gamma, alpha=0.3)
    operators.sigmoid_focal_loss_forward(scores, TARGET, weight, output, **arguments)
    operators.sigmoid_focal_loss_backward(scores, TARGET, weight, gradient, **arguments)
    expected = slow_sigmoid(scores, TARGET, gamma, 0.3, weight)
    torch.testing.assert_close(output, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), scores)[0])


def test_saturated_scores_have_a_finite_loss_and_gradient():
    scores = torch.tensor([[60.0, -60.0], [300.0, -300.0]])
    target, none = torch.tensor([0, 1]), torch.empty(0)
    output, gradient = torch.empty(2, 2), torch.empty(2, 2)
    for gamma in (0.5, 2.0):
        arguments = dict(gamma=gamma, alpha=0.25)
        operators.sigmoid_focal_loss_forward(scores, target, none, output, **arguments)
        operators.sigmoid_focal_loss_backward(scores, target, none, gradient, **arguments)
        # right: no loss; wrong by s: -log p = s, slope 1, times alpha or 1 - alpha
        torch.testing.assert_close(output, torch.tensor([[0, 0], [225.0, 75.0]]))
        torch.testing.assert_close(gradient, torch.tensor([[0, 0], [0.75, -0.25]]))


@pytest.mark.parametrize('gamma', [2.0, 0.5])
@pytest.mark.parametrize('weight', [[], [0.5, 2.0, 3.0]])
def test_softmax_focal_loss(weight, gamma):
    scores, weight = draw(6, 3), torch.tensor(weight, dtype=torch.float64)
    target = torch.tensor([0, 2, -1, 1, -1, 0])
    softmax = scores.softmax(1)
    output, buffer, gradient = torch.empty(6), torch.empty(6), torch.empty(6, 3).double()
    arguments = dict(gamma=gamma, alpha=0.3)
    operators.softmax_focal_loss_forward(softmax, target, weight, output, **arguments)
    operators.softmax_focal_loss_backward(softmax, target, weight, buffer, gradient, **arguments)
    expected = []
    for i, row in enumerate(softmax):
        p = row[target[i]]
        loss = -0.3 * (1 - p) ** gamma * p.log() * (weight[target[i]] if len(weight) else 1)
        expected.append(loss if target[i] >= 0 else 0 * p)
    expected = torch.stack(expected)
    torch.testing.assert_close(output, expected.detach().float())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), scores)[0])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype):
    scores, none = draw(6, 3).detach().to(dtype), torch.empty(0, dtype=dtype)
    output = torch.empty(6, 3, dtype=dtype)
    arguments = dict(gamma=2.0, alpha=0.25)
    operators.sigmoid_focal_loss_forward(scores, TARGET, none, output, **arguments)
    expected = torch.empty(6, 3)
    operators.sigmoid_focal_loss_forward(scores.float(), TARGET, none, expected, **arguments)
    assert torch.equal(output, expected.to(dtype))


def test_no_samples():
    empty = torch.empty(0, 3)
    for function in (operators.sigmoid_focal_loss_forward, operators.sigmoid_focal_loss_backward):
        function(empty, TARGET[:0], torch.empty(0), empty, gamma=2.0, alpha=0.25)
