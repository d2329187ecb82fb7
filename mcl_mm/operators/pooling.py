"""Features of regions."""

import torch
from torch import Tensor
from torchvision.ops import roi_align

from .placeholder import missing
from .precision import operator, widen

__all__ = [
    'roi_align_backward',
    'roi_align_forward',
    'roi_pool_backward',
    'roi_pool_forward',
]


@operator
def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the mean feature of each cell of each region.

    Args:
        input (Tensor): [B, C, H, W] features.
        rois (Tensor): [N, 5] index of the image, x1, y1, x2, y2 in pixels of the image.
        output (Tensor): [N, C, aligned_height, aligned_width], overwritten.
        argmax_y (Tensor): Not used.
        argmax_x (Tensor): Not used.
        aligned_height (int): Cells of a region, vertically.
        aligned_width (int): Cells of a region, horizontally.
        spatial_scale (float): Size of the features over the image's.
        sampling_ratio (int): Points a cell along each side; 0 takes one a pixel of the features.
        pool_mode (int): 1, the mean.
        aligned (bool): Whether the centre of the first pixel is at 0.5, not 0.

    Raises:
        NotImplementedError: ``pool_mode`` is 0, the maximum.
    """
    if pool_mode == 0:
        raise missing("roi_align_forward with pool_mode='max'")
    size = (aligned_height, aligned_width)
    input, rois = widen(input, rois)
    output.copy_(roi_align(input, rois, size, spatial_scale, sampling_ratio, aligned))


@operator
def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    *,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Add the gradient of [N, C, aligned_height, aligned_width] cells to ``grad_input``.

    The other arguments are as in :func:`roi_align_forward`.
    """
    grad_output, rois = widen(grad_output, rois)
    grad_input += torch.ops.torchvision._roi_align_backward(
        grad_output,
        rois,
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )


def _cell_edges(low: Tensor, high: Tensor, cells: int, size: int) -> tuple[list, list]:
    """First pixel and last pixel + 1 of each cell of each region along one side.

    Args:
        low (Tensor): [N] where the regions begin, in pixels of the features.
        high (Tensor): [N] where they end.
        cells (int): Cells along the side.
        size (int): Pixels along the side.

    Returns:
        tuple[list, list]: Two [N][cells] lists.
    """
    step = (high - low)[:, None] / cells
    cell = torch.arange(cells, device=low.device)
    first = (cell * step + low[:, None]).floor()
    end = ((cell + 1) * step + low[:, None]).ceil()
    return first.clamp(0, size).int().tolist(), end.clamp(0, size).int().tolist()


@operator
def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Write the largest feature of each cell of each region.

    torchvision's ``roi_pool`` rounds the corners of regions to pixels, mmcv's does not.

    Args:
        input (Tensor): [B, C, H, W] features.
        rois (Tensor): [N, 5] index of the image, x1, y1, x2, y2 in pixels of the image; the last
            two are inside of the region.
        output (Tensor): [N, C, pooled_height, pooled_width], overwritten; 0 in a cell without
            pixels.
        argmax (Tensor): Of the same shape, int32, overwritten: ``y * W + x`` of the largest
            feature, or -1.
        pooled_height (int): Cells of a region, vertically.
        pooled_width (int): Cells of a region, horizontally.
        spatial_scale (float): Size of the features over the image's.
    """
    height, width = input.shape[2:]
    input, rois = widen(input, rois)
    x1, y1, x2, y2 = (rois[:, 1:] + rois.new_tensor([0, 0, 1, 1])).mul(spatial_scale).unbind(1)
    lefts, rights = _cell_edges(x1, x2, pooled_width, width)
    tops, bottoms = _cell_edges(y1, y2, pooled_height, height)
    output.zero_()
    argmax.fill_(-1)
    real = (x2 > x1) & (y2 > y1)
    for n in real.nonzero().flatten().tolist():
        features = input[int(rois[n, 0])]
        for i, (top, bottom) in enumerate(zip(tops[n], bottoms[n], strict=True)):
            for j, (left, right) in enumerate(zip(lefts[n], rights[n], strict=True)):
                if bottom <= top or right <= left:
                    continue
                value, at = features[:, top:bottom, left:right].flatten(1).max(1)
                output[n, :, i, j] = value
                row, column = at // (right - left), at % (right - left)
                argmax[n, :, i, j] = (row + top) * width + column + left


@operator
def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    *,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Add the gradient of each cell to the pixel of ``grad_input`` [B, C, H, W] that it came from.

    The other arguments are as in :func:`roi_pool_forward`.
    """
    (grad,) = widen(grad_output)
    channels, height, width = grad_input.shape[1:]
    plane = rois[:, 0].long()[:, None] * channels + torch.arange(channels, device=rois.device)
    index = plane[:, :, None, None] * (height * width) + argmax
    counts = argmax >= 0
    total = grad.new_zeros(grad_input.numel()).index_add_(0, index[counts], grad[counts])
    grad_input += total.view_as(grad_input)
