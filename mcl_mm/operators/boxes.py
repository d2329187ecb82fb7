"""Overlaps and suppression of boxes and lanes."""

import torch
import torchvision
from torch import Tensor

from .precision import operator, widen

__all__ = ['bbox_overlaps', 'line_nms_forward', 'nms', 'nms_match', 'softnms']


def _single(value: float) -> float:
    """The number rounded to float32, the type in which the compiled operators compare."""
    return torch.tensor(value, dtype=torch.float32).item()


def _overlap(a: Tensor, b: Tensor, offset: int = 0, of_union: bool = True) -> Tensor:
    """Shared area over the union's, or over ``a``'s, of [..., 4] boxes that broadcast: [...]."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low + offset).clamp(min=0).prod(-1)
    area = (a[..., 2:] - a[..., :2] + offset).prod(-1)
    if of_union:
        area = area + (b[..., 2:] - b[..., :2] + offset).prod(-1) - shared
    return shared / area


@operator
def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, *, mode: int, aligned: bool, offset: int
) -> None:
    """Write overlaps into ``ious``.

    Args:
        bboxes1 (Tensor): [M, 4] x1, y1, x2, y2 in pixels.
        bboxes2 (Tensor): [N, 4].
        ious (Tensor): [M, N], or [M] of each pair where ``aligned``; overwritten.
        mode (int): 0 divides by the union, 1 by the area of ``bboxes1``.
        aligned (bool): Whether to compare box i with box i alone.
        offset (int): Added to widths and heights, 0 or 1.
    """
    a, b = widen(bboxes1, bboxes2)
    ious.copy_(_overlap(a if aligned else a[:, None], b, offset, of_union=mode == 0))


@operator
def nms(boxes: Tensor, scores: Tensor, *, iou_threshold: float, offset: int) -> Tensor:
    """Greedy suppression.

    Args:
        boxes (Tensor): [N, 4] x1, y1, x2, y2 in pixels.
        scores (Tensor): [N].
        iou_threshold (float): A box goes that overlaps a kept one by more.
        offset (int): Added to widths and heights, 0 or 1.

    Returns:
        Tensor: [K] int64 indices of the kept boxes, best score first.
    """
    boxes, scores = widen(boxes, scores)
    boxes = torch.cat([boxes[:, :2], boxes[:, 2:] + offset], dim=1)
    return torchvision.ops.nms(boxes, scores, _single(iou_threshold))


@operator
def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    *,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Suppression that lowers scores.

    Args:
        boxes (Tensor): [N, 4] x1, y1, x2, y2 in pixels.
        scores (Tensor): [N].
        dets (Tensor): [N, 5]; its first K rows become the kept boxes with their new scores.
        iou_threshold (float): Smallest overlap that methods 0 and 1 act on.
        sigma (float): Width of method 2.
        min_score (float): A box goes whose score was lowered below it.
        method (int): Factor on the score of a box that overlaps the best one by ``v``:
            0 (naive) 0, 1 (linear) ``1 - v``, 2 (Gaussian) ``exp(-v^2 / sigma)``.
        offset (int): Added to widths and heights, 0 or 1.

    Returns:
        Tensor: [K] int64 indices of the kept boxes, in the order of ``dets``.
    """
    left, scores = widen(boxes, scores)
    index = torch.arange(len(left), device=left.device)
    kept = []
    while len(index):
        best = scores.argmax()
        row, box = len(kept), left[best]
        dets[row, :4], dets[row, 4] = box, scores[best]
        kept.append(index[best])
        overlap = _overlap(box, left, offset)
        if method == 2:
            factor = torch.exp(-(overlap**2) / sigma)
        else:
            lowered = 1 - overlap if method == 1 else torch.zeros_like(overlap)
            factor = torch.where(overlap >= _single(iou_threshold), lowered, 1.0)
        scores = scores * factor
        # not "scores >= min_score": a score that is not a number stays, as in mmcv
        stays = ~(scores < _single(min_score))
        stays[best] = False
        left, scores, index = left[stays], scores[stays], index[stays]
    return torch.stack(kept) if kept else index


@operator
def nms_match(dets: Tensor, *, iou_threshold: float) -> list[list[int]]:
    """Greedy suppression that says which box suppressed which.

    Args:
        dets (Tensor): [N, 5] x1, y1, x2, y2 in pixels, score.
        iou_threshold (float): A box goes that overlaps a kept one by at least this.

    Returns:
        list[list[int]]: One list a kept box, best score first: its index, then those of the boxes
        that it suppressed, best score first.
    """
    (dets,) = widen(dets)
    order = dets[:, 4].argsort(descending=True, stable=True)
    groups = []
    while len(order):
        best, others = order[0], order[1:]
        near = _overlap(dets[best, :4], dets[others, :4]) >= _single(iou_threshold)
        groups.append([best.item(), *others[near].tolist()])
        order = others[~near]
    return groups


@operator
def line_nms_forward(
    boxes: Tensor, scores: Tensor, thresh: float, top_k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Greedy suppression of lanes by their mean distance.

    Args:
        boxes (Tensor): [N, 5 + S] lanes: two scores, start (share of the height), x of the start,
            length in strips, then x in pixels at each of ``S`` heights.
        scores (Tensor): [N].
        thresh (float): A lane goes that is nearer than this many pixels to a kept one, in the mean
            over the heights that both have.
        top_k (int): Largest number of lanes to keep.

    Returns:
        tuple[Tensor, Tensor, Tensor]: [N] indices of kept lanes, best score first, then zeros;
        their number [], and [N] the number, from 1, of the kept lane that a lane belongs to, or 0.
    """
    lanes, scores = widen(boxes, scores)
    heights = lanes.shape[1] - 5
    start = (lanes[:, 2] * (heights - 1) + 0.5).long()
    last = (start + lanes[:, 4].long() - 1).clamp(max=heights - 1)
    at = torch.arange(heights, device=lanes.device)
    order = scores.argsort(descending=True, stable=True)
    gone = torch.zeros_like(order, dtype=torch.bool)
    keep, owner = torch.zeros_like(order), torch.zeros_like(order)
    count = 0
    for rank, best in enumerate(order):
        if gone[best]:
            continue
        if count == top_k:
            break
        keep[count], count = best, count + 1
        others = order[rank + 1 :]
        first, end = start[others].maximum(start[best]), last[others].minimum(last[best])
        both = (at >= first[:, None]) & (at <= end[:, None])
        distance = ((lanes[others, 5:] - lanes[best, 5:]).abs() * both).sum(1)
        near = others[(distance < thresh * (end - first + 1)) & (end >= first) & (first >= 0)]
        gone[near] = True
        owner[best] = owner[near] = count
    return keep, torch.tensor(count, device=lanes.device), owner
