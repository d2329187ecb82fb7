"""The operators against mmcv's compiled ones, where those are installed (CPU kernels)."""

import pytest
import torch

from mcl_mm import operators
from mcl_mm.operators import boxes, deform_conv, pooling

if operators.is_supplied():
    pytest.skip('mmcv has no compiled operators here', allow_module_level=True)

from mmcv import _ext as compiled

TOLERANCE = dict(rtol=1e-4, atol=1e-5)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def boxes_and_scores(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 80 - 20
    size = torch.rand(count, 2, generator=generator) * 40
    scores = torch.randperm(count, generator=generator) / count
    return torch.cat([corner, corner + size], dim=1), scores


def regions(count, images):
    index = torch.arange(count)[:, None] % images
    return torch.cat([index, boxes_and_scores(count)[0]], dim=1)


def compare(name, ours, *arguments, outputs, **settings):
    """Call both on copies of the arguments; those numbered in ``outputs`` must end up close.

    The largest difference is printed, for ``pytest -s``.
    """
    results = []
    for function in (ours, getattr(compiled, name)):
        copies = [tensor.clone() for tensor in arguments]
        function(*copies, **settings)
        results.append([copies[i] for i in outputs])
    largest = max(
        (a - b).abs().max().item() if a.numel() else 0.0 for a, b in zip(*results, strict=True)
    )
    print(f'largest difference of {name}: {largest:.1e}')
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, **TOLERANCE)


@pytest.mark.parametrize('count', [0, 1, 300])
@pytest.mark.parametrize('offset', [0, 1])
def test_nms(count, offset):
    given, settings = boxes_and_scores(count), dict(iou_threshold=0.4, offset=offset)
    assert torch.equal(boxes.nms(*given, **settings), compiled.nms(*given, **settings))


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', [0, 1, 2])
def test_softnms(method, offset):
    settings = dict(iou_threshold=0.3, sigma=0.5, min_score=0.05, method=method, offset=offset)
    given, results = boxes_and_scores(200), []
    for function in (boxes.softnms, compiled.softnms):
        dets = torch.zeros(200, 5)
        kept = function(*given, dets, **settings)
        results.append((kept, dets[: len(kept)]))
    (ours, our_dets), (theirs, their_dets) = results
    assert torch.equal(ours, theirs)
    print(f'largest difference of softnms: {(our_dets - their_dets).abs().max():.1e}')
    torch.testing.assert_close(our_dets, their_dets, **TOLERANCE)


def test_nms_match():
    given, scores = boxes_and_scores(200)
    dets = torch.cat([given, scores[:, None]], dim=1)
    expected = compiled.nms_match(dets, iou_threshold=0.3)
    assert boxes.nms_match(dets, iou_threshold=0.3) == expected


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('mode', [0, 1])
def test_bbox_overlaps(mode, aligned):
    a, b = boxes_and_scores(30)[0], boxes_and_scores(30, seed=1)[0]
    ious = torch.zeros(30) if aligned else torch.zeros(30, 30)
    settings = dict(mode=mode, aligned=aligned, offset=0)
    compare('bbox_overlaps', boxes.bbox_overlaps, a, b, ious, outputs=[2], **settings)


@pytest.mark.parametrize('count', [0, 20])
@pytest.mark.parametrize('ratio', [0, 2])
@pytest.mark.parametrize('aligned', [True, False])
def test_roi_align(aligned, ratio, count):
    settings = dict(
        aligned_height=7,
        aligned_width=5,
        spatial_scale=0.25,
        sampling_ratio=ratio,
        pool_mode=1,
        aligned=aligned,
    )
    features, rois, none = draw(2, 8, 16, 20), regions(count, 2), torch.zeros(0)
    cells = draw(count, 8, 7, 5)
    given = (features, rois, torch.zeros_like(cells), none, none)
    compare('roi_align_forward', pooling.roi_align_forward, *given, outputs=[2], **settings)
    given = (cells, rois, none, none, torch.zeros_like(features))
    compare('roi_align_backward', pooling.roi_align_backward, *given, outputs=[4], **settings)


@pytest.mark.parametrize(('group', 'deformable_group'), [(1, 1), (2, 4)])
def test_deform_conv(group, deformable_group):
    settings = dict(kW=3, kH=3, dW=2, dH=1, padW=1, padH=2, dilationW=1, dilationH=2)
    settings.update(group=group, deformable_group=deformable_group, im2col_step=2)
    features, weight = draw(2, 8, 9, 11), draw(4, 8 // group, 3, 3, seed=1)
    offset, grad = draw(2, 18 * deformable_group, 9, 6, seed=2) * 2, draw(2, 4, 9, 6, seed=3)
    none = torch.empty(0)
    given = (features, weight, offset, torch.zeros_like(grad), none, none)
    compare('deform_conv_forward', deform_conv.deform_conv_forward, *given, outputs=[3], **settings)
    given = (features, offset, grad, torch.zeros_like(features), torch.zeros_like(offset), weight)
    compare(
        'deform_conv_backward_input',
        deform_conv.deform_conv_backward_input,
        *given,
        none,
        outputs=[3, 4],
        **settings,
    )
    compare(
        'deform_conv_backward_parameters',
        deform_conv.deform_conv_backward_parameters,
        *(features, offset, grad, torch.zeros_like(weight), none, none),
        outputs=[3],
        **settings,
        scale=1,
    )


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize(('group', 'deformable_group'), [(1, 1), (2, 4)])
def test_modulated_deform_conv(group, deformable_group, with_bias):
    names = ('kernel', 'stride', 'pad', 'dilation')
    values = ((3, 3), (1, 2), (2, 1), (2, 1))
    settings = {
        f'{n}_{s}': v[i] for n, v in zip(names, values, strict=True) for i, s in enumerate('hw')
    }
    settings.update(group=group, deformable_group=deformable_group, with_bias=with_bias)
    features, weight, bias = draw(2, 8, 9, 11), draw(4, 8 // group, 3, 3, seed=1), draw(4, seed=5)
    offset, mask = draw(2, 18 * deformable_group, 9, 6, seed=2), draw(2, 9 * deformable_group, 9, 6)
    grad, none = draw(2, 4, 9, 6, seed=3), torch.empty(0)
    given = (features, weight, bias, none, offset, mask)
    compare(
        'modulated_deform_conv_forward',
        deform_conv.modulated_deform_conv_forward,
        *given,
        torch.zeros_like(grad),
        none,
        outputs=[6],
        **settings,
    )
    totals = [torch.zeros_like(tensor) for tensor in (features, weight, bias, offset, mask)]
    compare(
        'modulated_deform_conv_backward',
        deform_conv.modulated_deform_conv_backward,
        *given,
        none,
        *totals,
        grad,
        outputs=[7, 8, 9, 10, 11],
        **settings,
    )


def test_modulated_deform_conv_with_offsets_of_a_larger_map():
    names = ('kernel', 'stride', 'pad', 'dilation')
    settings = {f'{n}_{s}': v for n, v in zip(names, (3, 1, 1, 1), strict=True) for s in 'hw'}
    settings.update(group=1, deformable_group=1, with_bias=False)
    features, weight, none = draw(2, 4, 4, 4), draw(4, 4, 3, 3, seed=1), torch.empty(0)
    offset, mask, grad = draw(2, 18, 8, 8, seed=2), draw(2, 9, 8, 8), draw(2, 4, 4, 4, seed=3)
    given = (features, weight, none, none, offset, mask)
    compare(
        'modulated_deform_conv_forward',
        deform_conv.modulated_deform_conv_forward,
        *given,
        torch.zeros_like(grad),
        none,
        outputs=[6],
        **settings,
    )
    totals = [torch.zeros_like(tensor) for tensor in (features, weight, none, offset, mask)]
    compare(
        'modulated_deform_conv_backward',
        deform_conv.modulated_deform_conv_backward,
        *given,
        none,
        *totals,
        grad,
        outputs=[7, 8, 10, 11],
        **settings,
    )
