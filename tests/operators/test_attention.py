"""Multi-scale deformable attention against a loop over single points."""

import pytest
import torch
from references import bilinear, draw

from mcl_mm.operators import attention as operators

SHAPES = torch.tensor([[4, 5], [2, 3]])
STARTS = torch.tensor([0, 20])


def inputs():
    """Two images, three heads; some places lie outside of the maps."""
    value, weights = draw(2, 26, 3, 4), draw(2, 5, 3, 2, 2, seed=2)
    locations = (draw(2, 5, 3, 2, 2, 2, seed=1) * 0.5 + 0.5).detach().requires_grad_()
    return value, locations, weights


def slow(value, locations, weights):
    rows = []
    for b in range(2):
        for q in range(5):
            for h in range(3):
                total = 0
                for level, (height, width) in enumerate(SHAPES.tolist()):
                    start = STARTS[level]
                    plane = value[b, start : start + height * width, h]
                    plane = plane.T.unflatten(1, (height, width))
                    for p in range(2):
                        x, y = locations[b, q, h, level, p]
                        read = bilinear(plane, y * height - 0.5, x * width - 0.5)
                        total = total + read * weights[b, q, h, level, p]
                rows.append(total)
    return torch.stack(rows).view(2, 5, 12)


def test_values_and_gradients():
    value, locations, weights = inputs()
    expected = slow(value, locations, weights)
    arguments = (value, SHAPES, STARTS, locations, weights)
    output = operators.ms_deform_attn_forward(*arguments, im2col_step=64)
    torch.testing.assert_close(output, expected.detach())
    grad = torch.randn_like(output)
    wanted = torch.autograd.grad((expected * grad).sum(), [value, locations, weights])
    found = [torch.ones_like(tensor) for tensor in wanted]
    operators.ms_deform_attn_backward(*arguments, grad, *found, im2col_step=64)
    torch.testing.assert_close(found, [1 + gradient for gradient in wanted])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype):
    value, locations, weights = (tensor.detach().to(dtype) for tensor in inputs())
    found = operators.ms_deform_attn_forward(
        value, SHAPES, STARTS, locations, weights, im2col_step=64
    )
    wide = operators.ms_deform_attn_forward(
        value.float(), SHAPES, STARTS, locations.float(), weights.float(), im2col_step=64
    )
    assert torch.equal(found, wide.to(dtype))
