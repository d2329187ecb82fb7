"""Convolutions at chosen places against loops; gradients from their autograd."""

import pytest
import torch
from references import deform_conv, draw

from mcl_mm.operators import deform_conv as operators

GEOMETRIES = [
    dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1, deform_groups=1),
    dict(stride=(2, 1), padding=(0, 2), dilation=(1, 2), groups=2, deform_groups=4),
    dict(stride=(1, 2), padding=(2, 1), dilation=(2, 1), groups=4, deform_groups=2),
]
KERNEL = (3, 2)


def tensors(geometry, modulated):
    """Input, weight, offsets that also lead outside of the map, mask and bias."""
    size = [
        (n + 2 * geometry['padding'][i] - geometry['dilation'][i] * (KERNEL[i] - 1) - 1)
        // geometry['stride'][i]
        + 1
        for i, n in enumerate((5, 6))
    ]
    points = geometry['deform_groups'] * KERNEL[0] * KERNEL[1]
    features, weight = draw(2, 8, 5, 6), draw(4, 8 // geometry['groups'], *KERNEL, seed=1)
    offset = (draw(2, 2 * points, *size, seed=2) * 2).detach().requires_grad_()
    mask = draw(2, points, *size, seed=3) if modulated else None
    return features, weight, offset, mask, draw(4, seed=4) if modulated else None


def sizes_of(geometry, names):
    (dh, dw), (ph, pw), (lh, lw) = (geometry[k] for k in ('stride', 'padding', 'dilation'))
    values = (*KERNEL, dh, dw, ph, pw, lh, lw, geometry['groups'], geometry['deform_groups'])
    return dict(zip([*names, 'group', 'deformable_group'], values, strict=True))


VERSION1 = ['kH', 'kW', 'dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW']
VERSION2 = [
    f'{name}_{side}' for name in ('kernel', 'stride', 'pad', 'dilation') for side in ('h', 'w')
]


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_deform_conv(geometry):
    features, weight, offset, _, _ = tensors(geometry, modulated=False)
    sizes = {**sizes_of(geometry, VERSION1), 'im2col_step': 2}
    expected = deform_conv(features, weight, offset, **geometry)
    output, buffers = torch.empty_like(expected), [torch.empty(0).double() for _ in range(2)]
    operators.deform_conv_forward(features, weight, offset, output, *buffers, **sizes)
    torch.testing.assert_close(output, expected.detach())

    grad = torch.randn_like(output)
    wanted = torch.autograd.grad((expected * grad).sum(), [features, offset, weight])
    by_input, by_offset, by_weight = (torch.ones_like(tensor) for tensor in wanted)
    alone = torch.zeros_like(by_weight)
    parameters = (features, offset, grad)
    operators.deform_conv_backward_parameters(*parameters, alone, *buffers, scale=1, **sizes)
    operators.deform_conv_backward_input(
        *parameters, by_input, by_offset, weight, buffers[0], **sizes
    )
    operators.deform_conv_backward_parameters(*parameters, by_weight, *buffers, scale=2, **sizes)
    torch.testing.assert_close(alone, wanted[2])
    torch.testing.assert_close(by_input, 1 + wanted[0])
    torch.testing.assert_close(by_offset, 1 + wanted[1])
    torch.testing.assert_close(by_weight, 1 + 2 * wanted[2])
    assert not buffers[0].numel()  # a gradient is not used twice


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_modulated_deform_conv(geometry, with_bias):
    features, weight, offset, mask, bias = tensors(geometry, modulated=True)
    sizes = {**sizes_of(geometry, VERSION2), 'with_bias': with_bias}
    expected = deform_conv(features, weight, offset, mask, **geometry)
    expected = expected + bias[:, None, None] * with_bias
    output, unused = torch.empty_like(expected), torch.empty(0)
    given = (features, weight, bias, unused, offset, mask)
    operators.modulated_deform_conv_forward(*given, output, unused, **sizes)
    torch.testing.assert_close(output, expected.detach())

    grad = torch.randn_like(output)
    inputs = [features, weight, bias, offset, mask]
    wanted = torch.autograd.grad((expected * grad).sum(), inputs)
    gradients = [torch.zeros_like(tensor) for tensor in wanted]
    operators.modulated_deform_conv_backward(*given, unused, *gradients, grad, **sizes)
    for found, expected_gradient in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, expected_gradient)


def test_modulated_deform_conv_reads_offsets_of_a_larger_map_in_their_order():
    """As mmcv does: DyHead's weights were trained with it."""
    geometry = GEOMETRIES[0]
    features, weight, offset, mask, bias = tensors(geometry, modulated=True)
    sizes = {**sizes_of(geometry, VERSION2), 'with_bias': False}
    rest = [torch.cat([t.flatten(1), draw(2, 7 * t.shape[1])], dim=1) for t in (offset, mask)]
    larger = [t.view(2, c, 6, 7).detach() for t, c in zip(rest, (12, 6), strict=True)]
    results = []
    for shifts in ((offset, mask), larger):
        output = torch.empty(2, 4, 5, 7).double()
        given = (features, weight, bias, None, *shifts)
        operators.modulated_deform_conv_forward(*given, output, None, **sizes)
        totals = [torch.zeros_like(t) for t in (features, weight, bias, *shifts)]
        totals = [total.requires_grad_(False) for total in totals]
        operators.modulated_deform_conv_backward(*given, None, *totals, output, **sizes)
        results.append((output, totals))
    (output, totals), (other, others) = results
    assert torch.equal(output, other)
    for i in (0, 1, 3, 4):  # 2 is the bias
        count = totals[i][0].numel()
        large = others[i].flatten(1)
        assert torch.equal(totals[i].flatten(1), large[:, :count])
        assert not large[:, count:].any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype):
    given = [t.detach().to(dtype) for t in tensors(GEOMETRIES[0], modulated=False)[:3]]
    sizes = {**sizes_of(GEOMETRIES[0], VERSION1), 'im2col_step': 2}
    output, wide = (torch.empty(2, 4, 5, 7, dtype=kind) for kind in (dtype, torch.float32))
    operators.deform_conv_forward(*given, output, None, None, **sizes)
    operators.deform_conv_forward(*[t.float() for t in given], wide, None, None, **sizes)
    assert torch.equal(output, wide.to(dtype))
