"""Suppression and overlaps against loops over single boxes."""

import math

import pytest
import torch
from references import iou

from mcl_mm.operators import boxes as operators


def draw_boxes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes that often overlap, some of them outside of any map, and scores without ties."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 40 - 20
    size = torch.rand(count, 2, generator=generator) * 30 + 1
    scores = torch.randperm(count, generator=generator) / count
    return torch.cat([corner, corner + size], dim=1), scores


def slow_nms(boxes, scores, threshold, offset=0, at_threshold=False):
    """Groups of a kept box and those that it suppressed, best score first."""
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    groups = []
    for i in order:
        for group in groups:
            overlap = iou(boxes[group[0]].tolist(), boxes[i].tolist(), offset)
            if overlap > threshold or (at_threshold and overlap == threshold):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.3, 0.5])
def test_nms(threshold, offset):
    boxes, scores = draw_boxes(60)
    kept = operators.nms(boxes, scores, iou_threshold=threshold, offset=offset)
    expected = [group[0] for group in slow_nms(boxes, scores, threshold, offset)]
    assert 1 < len(expected) < 60
    assert kept.tolist() == expected


def test_nms_compares_in_float32():
    """Overlap 3/5 is above 0.6 in float64 only."""
    boxes, scores = torch.tensor([[0, 0, 4.0, 1], [1, 0, 5, 1]]), torch.tensor([0.9, 0.8])
    assert operators.nms(boxes, scores, iou_threshold=0.6, offset=0).tolist() == [0, 1]
    assert operators.nms(boxes, scores, iou_threshold=0.59, offset=0).tolist() == [0]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_in_other_number_types(dtype):
    boxes, scores = (tensor.to(dtype) for tensor in draw_boxes(30))
    kept = operators.nms(boxes, scores, iou_threshold=0.3, offset=0)
    expected = slow_nms(boxes.double(), scores.double(), 0.3)
    assert kept.tolist() == [group[0] for group in expected]


def test_no_boxes():
    boxes, scores = torch.zeros(0, 4), torch.zeros(0)
    kept = operators.nms(boxes, scores, iou_threshold=0.5, offset=0)
    assert (kept.shape, kept.dtype) == ((0,), torch.int64)
    soft = operators.softnms(
        boxes,
        scores,
        torch.zeros(0, 5),
        iou_threshold=0.5,
        sigma=0.5,
        min_score=0.1,
        method=1,
        offset=0,
    )
    assert (soft.shape, soft.dtype) == ((0,), torch.int64)
    assert operators.nms_match(torch.zeros(0, 5), iou_threshold=0.5) == []


def test_nms_match():
    boxes, scores = draw_boxes(60)
    dets = torch.cat([boxes, scores[:, None]], dim=1)
    groups = operators.nms_match(dets, iou_threshold=0.3)
    assert max(map(len, groups)) > 2
    assert groups == slow_nms(boxes, scores, 0.3)
    # at the threshold a box goes, other than in nms
    pair = torch.tensor([[0, 0, 2.0, 1, 0.5], [0, 0, 1, 1, 0.9]])
    assert operators.nms_match(pair, iou_threshold=0.5) == [[1, 0]]


def slow_softnms(boxes, scores, threshold, sigma, min_score, method, offset):
    left = {i: score for i, score in enumerate(scores.tolist())}
    kept = []
    while left:
        best = max(left, key=left.get)
        kept.append((best, left.pop(best)))
        for i in list(left):
            overlap = iou(boxes[best].tolist(), boxes[i].tolist(), offset)
            if method == 2:
                left[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                left[i] *= 1 - overlap if method == 1 else 0
            if left[i] < min_score:
                del left[i]
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', [0, 1, 2])
def test_softnms(method, offset):
    boxes, scores = draw_boxes(40)
    dets = torch.full((40, 5), -1.0)
    settings = dict(sigma=0.5, min_score=0.05, method=method, offset=offset)
    kept = operators.softnms(boxes, scores, dets, iou_threshold=0.3, **settings)
    expected = slow_softnms(boxes, scores, 0.3, **settings)
    assert 1 < len(expected) < 40
    assert kept.tolist() == [index for index, _ in expected]
    torch.testing.assert_close(dets[: len(kept), :4], boxes[kept])
    torch.testing.assert_close(dets[: len(kept), 4], torch.tensor([s for _, s in expected]))
    assert (dets[len(kept) :] == -1).all()


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('mode', [0, 1])
def test_bbox_overlaps(mode, offset):
    a, b = draw_boxes(5)[0], draw_boxes(5, seed=1)[0]
    pairs, aligned = torch.zeros(5, 5), torch.zeros(5)
    operators.bbox_overlaps(a, b, pairs, mode=mode, aligned=False, offset=offset)
    operators.bbox_overlaps(a, b, aligned, mode=mode, aligned=True, offset=offset)
    expected = torch.tensor([[iou(x.tolist(), y.tolist(), offset) for y in b] for x in a])
    if mode == 1:
        area_a, area_b = ((c[:, 2:] - c[:, :2] + offset).prod(1) for c in (a, b))
        shared = expected * (area_a[:, None] + area_b) / (1 + expected)
        expected = shared / area_a[:, None]
    assert expected.count_nonzero() > 5
    torch.testing.assert_close(pairs, expected)
    torch.testing.assert_close(aligned, expected.diagonal())


def draw_lanes(count: int, heights: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    lanes = torch.zeros(count, 5 + heights)
    lanes[:, 2] = torch.rand(count, generator=generator)
    lanes[:, 4] = torch.rand(count, generator=generator) * heights
    lanes[:, 5:] = torch.randint(0, 3, (count, 1), generator=generator) * 50.0
    lanes[:, 5:] += torch.rand(count, heights, generator=generator) * 20
    return lanes, torch.randperm(count, generator=generator) / count


@pytest.mark.parametrize('top_k', [3, 100])
def test_line_nms(top_k):
    lanes, scores = draw_lanes(30)
    keep, count, owner = operators.line_nms_forward(lanes, scores, 10.0, top_k)

    def near(a, b):
        starts = [int(lane[2] * 11 + 0.5) for lane in (a, b)]
        ends = [start + int(lane[4]) - 1 for start, lane in zip(starts, (a, b), strict=True)]
        both = range(max(starts), min(*ends, 11) + 1)
        return len(both) and sum(abs(a[5 + i] - b[5 + i]) for i in both) < 10.0 * len(both)

    order = sorted(range(30), key=lambda i: -scores[i])
    kept, owners = [], [0] * 30
    suppressed = set()
    for rank, i in enumerate(order):
        if i not in suppressed and len(kept) < top_k:
            kept.append(i)
            owners[i] = len(kept)
            for j in order[rank + 1 :]:
                if near(lanes[i], lanes[j]):
                    suppressed.add(j)
                    owners[j] = len(kept)
    assert count == len(kept) == min(top_k, len(kept)) > 2
    assert suppressed
    assert keep[:count].tolist() == kept
    assert not keep[count:].any()
    assert owner.tolist() == owners
