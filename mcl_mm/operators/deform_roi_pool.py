"""Features of regions whose cells are shifted."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import operator, widen

__all__ = ['deform_roi_pool_backward', 'deform_roi_pool_forward']

# Samples of one channel that are in memory at once.
SAMPLES = 2**18


def _alike(
    rois: Tensor, cells: tuple[int, int], scale: float, ratio: int
) -> Iterator[tuple[int, tuple[int, int], Tensor]]:
    """Regions of one image that take the same number of points in a cell.

    Args:
        rois (Tensor): [N, 5] index of the image, x1, y1, x2, y2 in pixels of the image.
        cells (tuple[int, int]): Rows and columns of cells.
        scale (float): Size of the features over the image's.
        ratio (int): Points a cell along each side, or 0.

    Yields:
        tuple[int, tuple[int, int], Tensor]: Image; points along the height and the width of a
        cell; [M] int64 indices of regions. Regions without any point are left out.
    """
    size = (rois[:, [4, 3]] - rois[:, [2, 1]]) * scale
    grids = (size / size.new_tensor(cells)).ceil()
    if ratio > 0:
        grids = torch.full_like(grids, ratio)
    keys = torch.cat([rois[:, :1], grids], dim=1).long()
    for image, height, width in keys.unique(dim=0).tolist():
        if min(height, width) > 0:
            alike = (keys == keys.new_tensor([image, height, width])).all(1).nonzero().flatten()
            together = max(1, SAMPLES // (cells[0] * cells[1] * height * width))
            for index in alike.split(together):
                yield image, (height, width), index


def _pool(
    features: Tensor, rois: Tensor, offset: Tensor, scale: float, gamma: float, grid: tuple
) -> Tensor:
    """Mean features of each cell, differentiable by features and offsets.

    Args:
        features (Tensor): [C, H, W].
        rois (Tensor): [M, 5].
        offset (Tensor): [M, 2, rows, columns] shift of each cell, x before y, in sizes of its
            region over ``gamma``.
        scale (float): Size of the features over the image's.
        gamma (float): Factor on the offsets.
        grid (tuple[int, int]): Points along the height and the width of a cell.

    Returns:
        Tensor: [M, C, rows, columns].
    """

    def table(rows: int, columns: int) -> Tensor:
        y, x = (torch.arange(n, device=rois.device).to(rois) for n in (rows, columns))
        return torch.stack(torch.meshgrid(x, y, indexing='xy'), dim=-1)

    rows, columns = offset.shape[2:]
    start, end = rois[:, None, None, 1:3] * scale - 0.5, rois[:, None, None, 3:] * scale - 0.5
    cell = (end - start) / rois.new_tensor([columns, rows])
    corner = start + table(rows, columns) * cell
    corner = corner + gamma * (end - start) * offset.permute(0, 2, 3, 1)
    inside = (table(*grid) + 0.5) / rois.new_tensor([grid[1], grid[0]])
    points = corner[:, :, :, None, None] + inside * cell[:, :, :, None, None]

    size = rois.new_tensor([features.shape[2], features.shape[1]])
    # border pixels reach one pixel beyond the map; further away is nothing
    near = ((points >= -1) & (points <= size)).all(-1)
    place = ((2 * points + 1) / size - 1).flatten(0, 3)
    samples = F.grid_sample(features[None], place[None], padding_mode='border', align_corners=False)
    samples = samples[0].unflatten(1, points.shape[:4]) * near
    return samples.mean((-2, -1)).transpose(0, 1)


def _offsets(offset: Tensor, rois: Tensor, cells: tuple[int, int]) -> Tensor:
    """The offsets, or zeros in their place where there are none."""
    return offset if offset.numel() else rois.new_zeros(len(rois), 2, *cells)


@operator
def deform_roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    output: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Write the mean feature of each shifted cell of each region.

    Args:
        input (Tensor): [B, C, H, W] features.
        rois (Tensor): [N, 5] index of the image, x1, y1, x2, y2 in pixels of the image.
        offset (Tensor): [N, 2, pooled_height, pooled_width] shifts, x before y, or empty.
        output (Tensor): [N, C, pooled_height, pooled_width], overwritten.
        pooled_height (int): Cells of a region, vertically.
        pooled_width (int): Cells of a region, horizontally.
        spatial_scale (float): Size of the features over the image's.
        sampling_ratio (int): Points a cell along each side; 0 takes one a pixel of the features.
        gamma (float): A shift of 1 moves a cell by ``gamma`` times the size of its region.
    """
    cells = (pooled_height, pooled_width)
    input, rois, offset = widen(input, rois, offset)
    offset = _offsets(offset, rois, cells)
    output.zero_()
    for image, grid, index in _alike(rois, cells, spatial_scale, sampling_ratio):
        pooled = _pool(input[image], rois[index], offset[index], spatial_scale, gamma, grid)
        output[index] = pooled.to(output.dtype)


@operator
def deform_roi_pool_backward(
    grad_output: Tensor,
    input: Tensor,
    rois: Tensor,
    offset: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    gamma: float,
) -> None:
    """Add to the gradients of features and shifts; arguments as :func:`deform_roi_pool_forward`."""
    cells = (pooled_height, pooled_width)
    grad, input, rois, shift = widen(grad_output, input, rois, offset)
    shift = _offsets(shift, rois, cells)
    for image, grid, index in _alike(rois, cells, spatial_scale, sampling_ratio):
        sources = [input[image].requires_grad_(), shift[index].requires_grad_()]
        with torch.enable_grad():
            pooled = _pool(sources[0], rois[index], sources[1], spatial_scale, gamma, grid)
        by_input, by_offset = torch.autograd.grad(pooled, sources, grad[index])
        grad_input[image] += by_input
        if offset.numel():
            grad_offset[index] += by_offset.to(grad_offset.dtype)
