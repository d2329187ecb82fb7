"""Features of regions against loops over single points; gradients from their autograd."""

import pytest
import torch
from references import draw, roi_align

from mcl_mm.operators import deform_roi_pool, pooling

# Inside, partly outside, outside, wider than the map, smaller than a pixel, on the second image.
ROIS = torch.tensor(
    [
        [0, 2.3, 4.1, 17.9, 12.7],
        [1, -9.0, -6.5, 8.2, 7.4],
        [0, 60, 60, 70, 80],
        [1, -5, -5, 40, 30],
        [1, 3.2, 3.1, 3.6, 3.9],
    ],
    dtype=torch.float64,
)
CELLS = (2, 3)
SIZES = dict(aligned_height=2, aligned_width=3, spatial_scale=0.5, pool_mode=1)
NOTHING = torch.zeros(0)


def forward(features, rois, **arguments):
    output = features.new_full((len(rois), features.shape[1], *CELLS), float('nan'))
    pooling.roi_align_forward(features, rois, output, NOTHING, NOTHING, **SIZES, **arguments)
    return output


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 2])
def test_roi_align(ratio, aligned):
    features, arguments = draw(2, 3, 9, 11), dict(sampling_ratio=ratio, aligned=aligned)
    expected = roi_align(features, ROIS, CELLS, 0.5, ratio, aligned)
    torch.testing.assert_close(forward(features, ROIS, **arguments), expected.detach())
    weight = torch.randn_like(expected)
    gradient = torch.ones(2, 3, 9, 11, dtype=torch.float64)  # is added to
    pooling.roi_align_backward(weight, ROIS, NOTHING, NOTHING, gradient, **SIZES, **arguments)
    torch.testing.assert_close(
        gradient, 1 + torch.autograd.grad((expected * weight).sum(), features)[0]
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_rounds_half_precision_once(dtype):
    features, rois = draw(2, 3, 9, 11).detach().to(dtype), ROIS.to(dtype)
    arguments = dict(sampling_ratio=0, aligned=True)
    expected = forward(features.float(), rois.float(), **arguments)
    # regions may have another number type, as under autocast
    for regions in (rois, rois.float()):
        assert torch.equal(forward(features, regions, **arguments), expected.to(dtype))


def test_roi_align_of_maps_that_are_not_contiguous():
    features, arguments = draw(2, 3, 9, 11).detach(), dict(sampling_ratio=0, aligned=True)
    last = features.to(memory_format=torch.channels_last)
    assert torch.equal(forward(last, ROIS, **arguments), forward(features, ROIS, **arguments))


def test_no_regions():
    features, rois = draw(2, 3, 9, 11).detach(), ROIS[:0]
    assert forward(features, rois, sampling_ratio=0, aligned=True).shape == (0, 3, *CELLS)
    gradient = torch.zeros_like(features)
    arguments = dict(sampling_ratio=0, aligned=True)
    empty = features.new_zeros(0, 3, *CELLS)
    pooling.roi_align_backward(empty, rois, NOTHING, NOTHING, gradient, **SIZES, **arguments)
    assert not gradient.any()


def test_the_maximum_of_points_is_missing_and_says_so():
    features = draw(1, 3, 9, 11).detach()
    arguments = {**SIZES, 'pool_mode': 0}
    with pytest.raises(NotImplementedError, match=r"pool_mode='max'.*--compile-operators"):
        pooling.roi_align_forward(
            features,
            ROIS,
            torch.zeros(5, 3, *CELLS),
            NOTHING,
            NOTHING,
            **arguments,
            sampling_ratio=0,
            aligned=True,
        )


def slow_roi_pool(features, rois, scale):
    rows = []
    for image, x1, y1, x2, y2 in rois.tolist():
        plane = features[int(image)]
        x1, y1, x2, y2 = x1 * scale, y1 * scale, (x2 + 1) * scale, (y2 + 1) * scale
        for i in range(CELLS[0]):
            for j in range(CELLS[1]):
                top, bottom = (y1 + k * (y2 - y1) / CELLS[0] for k in (i, i + 1))
                left, right = (x1 + k * (x2 - x1) / CELLS[1] for k in (j, j + 1))
                pixels = [
                    plane[:, y, x]
                    for y in range(plane.shape[1])
                    for x in range(plane.shape[2])
                    if y + 1 > top and y < bottom and x + 1 > left and x < right
                ]
                if pixels and x2 > x1 and y2 > y1:
                    rows.append(torch.stack(pixels).amax(0))
                else:
                    rows.append(0 * plane[:, 0, 0])
    return torch.stack(rows).view(len(rois), *CELLS, -1).permute(0, 3, 1, 2)


def test_roi_pool():
    features = draw(2, 3, 9, 11)
    rois = torch.cat([ROIS, ROIS.new_tensor([[0, 9, 9, 3, 3]])])  # the last one is inside out
    expected = slow_roi_pool(features, rois, 0.5)
    output = torch.empty_like(expected)
    argmax = torch.empty(output.shape, dtype=torch.int32)
    sizes = dict(pooled_height=2, pooled_width=3, spatial_scale=0.5)
    pooling.roi_pool_forward(features, rois, output, argmax, **sizes)
    torch.testing.assert_close(output, expected.detach())
    assert (argmax[2] == -1).all()
    weight, gradient = torch.randn_like(output), torch.zeros_like(features)
    pooling.roi_pool_backward(weight, rois, argmax, gradient.requires_grad_(False), **sizes)
    torch.testing.assert_close(
        gradient, torch.autograd.grad((expected * weight).sum(), features)[0]
    )


@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('shifted', [True, False])
def test_deform_roi_pool(shifted, ratio, monkeypatch):
    monkeypatch.setattr(deform_roi_pool, 'SAMPLES', 20)  # several rounds
    features, offset = draw(2, 3, 9, 11), draw(5, 2, *CELLS, seed=1)
    given = offset if shifted else offset[:0]
    expected = roi_align(
        features, ROIS, CELLS, 0.5, ratio, True, offset if shifted else None, gamma=0.1
    )
    sizes = dict(pooled_height=2, pooled_width=3, spatial_scale=0.5, gamma=0.1)
    output = torch.full_like(expected, float('nan')).detach()
    deform_roi_pool.deform_roi_pool_forward(
        features, ROIS, given, output, **sizes, sampling_ratio=ratio
    )
    torch.testing.assert_close(output, expected.detach())
    weight = torch.randn_like(output)
    by_features, by_offset = torch.zeros(2, 3, 9, 11).double(), torch.zeros_like(given).detach()
    deform_roi_pool.deform_roi_pool_backward(
        weight, features, ROIS, given, by_features, by_offset, **sizes, sampling_ratio=ratio
    )
    loss = (expected * weight).sum()
    torch.testing.assert_close(
        by_features, torch.autograd.grad(loss, features, retain_graph=True)[0]
    )
    if shifted:
        torch.testing.assert_close(by_offset, torch.autograd.grad(loss, offset)[0])
