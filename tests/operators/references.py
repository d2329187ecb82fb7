"""Slow and plain versions of the operators: loops over single numbers that autograd follows."""

import math

import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal float64 numbers that ask for a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def bilinear(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """[C] features of a [C, H, W] map between its pixels, where all outside of it is zero."""
    total = plane.new_zeros(len(plane))
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < plane.shape[1] and 0 <= j < plane.shape[2]:
                total = total + plane[:, i, j] * (1 - abs(y - i)) * (1 - abs(x - j))
    return total


def bilinear_border(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """As :func:`bilinear`, but border pixels reach one pixel beyond the map."""
    height, width = plane.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return plane.new_zeros(len(plane))
    return bilinear(plane, y.clamp(0, height - 1), x.clamp(0, width - 1))


def roi_align(
    features: Tensor,
    rois: Tensor,
    size: tuple[int, int],
    scale: float,
    ratio: int,
    aligned: bool,
    offset: Tensor | None = None,
    gamma: float = 0.0,
) -> Tensor:
    """Mean of the points of each cell, with or without a shift of each cell."""
    rows = []
    for n, (image, *_) in enumerate(rois):
        x1, y1, x2, y2 = rois[n, 1:] * scale - 0.5 * aligned
        width, height = x2 - x1, y2 - y1
        if not aligned:
            width, height = width.clamp(min=1), height.clamp(min=1)
        across = ratio or math.ceil(width / size[1])
        down = ratio or math.ceil(height / size[0])
        for i in range(size[0]):
            for j in range(size[1]):
                dx = dy = 0
                if offset is not None:
                    dx, dy = gamma * width * offset[n, 0, i, j], gamma * height * offset[n, 1, i, j]
                total = features.new_zeros(features.shape[1])
                for a in range(down):
                    for b in range(across):
                        y = y1 + dy + (i + (a + 0.5) / down) * height / size[0]
                        x = x1 + dx + (j + (b + 0.5) / across) * width / size[1]
                        total = total + bilinear_border(features[int(image)], y, x)
                rows.append(total / max(down * across, 1))
    if not rows:
        return features.new_zeros(0, features.shape[1], *size)
    return torch.stack(rows).unflatten(0, (len(rois), *size)).permute(0, 3, 1, 2)


def deform_conv(
    features: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None = None,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """A convolution that reads each input of its kernel at a shifted place."""
    batch = len(features)
    outputs, per_group, kernel_h, kernel_w = weight.shape
    height, width = offset.shape[2:]
    offset = offset.view(batch, deform_groups, kernel_h, kernel_w, 2, height, width)
    if mask is not None:
        mask = mask.view(batch, deform_groups, kernel_h, kernel_w, height, width)
    pixels = []
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                total = features.new_zeros(outputs)
                for k in range(kernel_h):
                    for m in range(kernel_w):
                        read = []
                        for g, plane in enumerate(features[b].chunk(deform_groups)):
                            dy, dx = offset[b, g, k, m, :, i, j]
                            y = i * stride[0] - padding[0] + k * dilation[0] + dy
                            x = j * stride[1] - padding[1] + m * dilation[1] + dx
                            value = bilinear(plane, y, x)
                            read.append(value if mask is None else value * mask[b, g, k, m, i, j])
                        read = torch.cat(read).view(groups, per_group)
                        kernel = weight[:, :, k, m].view(groups, outputs // groups, per_group)
                        total = total + (kernel * read[:, None]).sum(2).flatten()
                pixels.append(total)
    return torch.stack(pixels).view(batch, height, width, outputs).permute(0, 3, 1, 2)


def iou(a: list[float], b: list[float], offset: int = 0) -> float:
    """Intersection over union of two boxes."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b)]
    return width * height / (sum(areas) - width * height)
