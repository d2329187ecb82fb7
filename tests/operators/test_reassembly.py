"""CARAFE and masked convolutions against loops; gradients from their autograd."""

import pytest
import torch
import torch.nn.functional as F
from references import draw

from mcl_mm.operators import reassembly


def slow_carafe(features, masks, kernel, groups, scale):
    height, width = features.shape[2] * scale, features.shape[3] * scale
    pixels = []
    for y in range(height):
        for x in range(width):
            total = 0
            for i in range(kernel):
                for j in range(kernel):
                    row, column = y // scale + i - kernel // 2, x // scale + j - kernel // 2
                    inside = 0 <= row < features.shape[2] and 0 <= column < features.shape[3]
                    if inside:
                        factor = masks[:, i * kernel + j :: kernel**2, y, x]
                        factor = factor.repeat_interleave(features.shape[1] // groups, dim=1)
                        total = total + features[:, :, row, column] * factor
            pixels.append(total)
    return torch.stack(pixels, dim=2).unflatten(2, (height, width))


@pytest.mark.parametrize(('kernel', 'groups', 'scale'), [(3, 1, 2), (5, 2, 1), (3, 4, 3)])
def test_carafe(kernel, groups, scale):
    features, masks = draw(2, 4, 3, 4), draw(2, groups * kernel**2, 3 * scale, 4 * scale, seed=1)
    sizes = dict(kernel_size=kernel, group_size=groups, scale_factor=scale)
    expected = slow_carafe(features, masks, kernel, groups, scale)
    kept, unused, output = torch.empty(2, 4, 3, 4).double(), None, torch.empty_like(expected)
    reassembly.carafe_forward(features, masks, kept, unused, unused, output, **sizes)
    torch.testing.assert_close(output, expected.detach())
    grad = torch.randn_like(output)
    wanted = torch.autograd.grad((expected * grad).sum(), [features, masks])
    found = [torch.empty_like(tensor) for tensor in wanted]
    reassembly.carafe_backward(grad, kept, masks, unused, unused, unused, unused, *found, **sizes)
    torch.testing.assert_close(found, list(wanted))


@pytest.mark.parametrize(('kernel', 'padding'), [((3, 3), (1, 1)), ((1, 5), (0, 2))])
def test_masked_convolution(kernel, padding):
    """Where the mask is set, it is the convolution."""
    image, weight = draw(1, 3, 6, 7).detach(), draw(4, 3, *kernel, seed=1).detach()
    expected = F.conv2d(image, weight, padding=padding)
    rows, columns = (torch.rand(6, 7) > 0.5).nonzero().unbind(1)
    col = torch.empty(3 * kernel[0] * kernel[1], len(rows)).double()
    reassembly.masked_im2col_forward(
        image,
        rows,
        columns,
        col,
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        pad_h=padding[0],
        pad_w=padding[1],
    )
    output = torch.zeros_like(expected)
    reassembly.masked_col2im_forward(
        weight.flatten(1) @ col, rows, columns, output, height=6, width=7, channels=4
    )
    torch.testing.assert_close(output[..., rows, columns], expected[..., rows, columns])
    assert output.count_nonzero() == 4 * len(rows)
