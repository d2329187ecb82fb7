"""CARAFE's upsampling, and convolution at some places only."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import operator, widen

__all__ = ['carafe_backward', 'carafe_forward', 'masked_col2im_forward', 'masked_im2col_forward']


def _shifts(size: int, height: int, width: int) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Number of each kernel element, and where a padded map lies under it."""
    for k in range(size * size):
        y, x = divmod(k, size)
        yield k, (..., slice(y, y + height), slice(x, x + width))


def _by_group(x: Tensor, groups: int, scale: int) -> Tensor:
    """[B, groups * C, H * scale, W * scale] as [B, groups, C, H, scale, W, scale]."""
    x = x.unflatten(1, (groups, -1))
    return x.unflatten(-1, (-1, scale)).unflatten(-3, (-1, scale))


@operator
def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write features upsampled with a kernel of its own for every output pixel.

    Args:
        features (Tensor): [B, C, H, W].
        masks (Tensor): [B, group_size * kernel_size^2, H * scale_factor, W * scale_factor].
        rfeatures (Tensor): [B, C, H, W], becomes ``features``: mmcv hands it to the backward.
        routput (Tensor): Not used.
        rmasks (Tensor): Not used.
        output (Tensor): [B, C, H * scale_factor, W * scale_factor], overwritten.
        kernel_size (int): Side of the kernels, odd.
        group_size (int): Groups of channels, each with kernels of its own.
        scale_factor (int): Output pixels along a side for one input pixel.
    """
    rfeatures.copy_(features)
    wide, masks = widen(features, masks)
    padded = F.pad(wide, [kernel_size // 2] * 4).unflatten(1, (group_size, -1))
    kernels = _by_group(masks, group_size, scale_factor)
    total = torch.zeros_like(_by_group(output, group_size, scale_factor), dtype=wide.dtype)
    for k, under in _shifts(kernel_size, *features.shape[2:]):
        total.addcmul_(padded[under][..., None, :, None], kernels[:, :, k, None])
    output.copy_(total.flatten(-2).flatten(-3, -2).flatten(1, 2))


@operator
def carafe_backward(
    top_grad: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rtop_grad: Tensor,
    rbottom_grad_hs: Tensor,
    rbottom_grad: Tensor,
    rmask_grad: Tensor,
    bottom_grad: Tensor,
    mask_grad: Tensor,
    *,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients of features into ``bottom_grad`` and of kernels into ``mask_grad``.

    Args:
        top_grad (Tensor): [B, C, H * scale_factor, W * scale_factor].
        rfeatures (Tensor): [B, C, H, W] the features.
        masks (Tensor): As in :func:`carafe_forward`, and so are the sizes.
        rtop_grad (Tensor): Not used.
        rbottom_grad_hs (Tensor): Not used.
        rbottom_grad (Tensor): Not used.
        rmask_grad (Tensor): Not used.
        bottom_grad (Tensor): [B, C, H, W], overwritten.
        mask_grad (Tensor): In the shape of ``masks``, overwritten.
    """
    wide, masks, grad = widen(rfeatures, masks, top_grad)
    edge, (height, width) = kernel_size // 2, rfeatures.shape[2:]
    padded = F.pad(wide, [edge] * 4).unflatten(1, (group_size, -1))
    kernels = _by_group(masks, group_size, scale_factor)
    grad = _by_group(grad, group_size, scale_factor)
    by_features, by_kernels = torch.zeros_like(padded), torch.zeros_like(kernels)
    for k, under in _shifts(kernel_size, height, width):
        by_features[under] += (grad * kernels[:, :, k, None]).sum((-3, -1))
        by_kernels[:, :, k] = (grad * padded[under][..., None, :, None]).sum(2)
    inside = by_features.flatten(1, 2)[..., edge : edge + height, edge : edge + width]
    bottom_grad.copy_(inside)
    mask_grad.copy_(by_kernels.flatten(-2).flatten(-3, -2).flatten(1, 2))


@operator
def masked_im2col_forward(
    im: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    col: Tensor,
    *,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write what lies under the kernel at some output places.

    Args:
        im (Tensor): [1, C, H, W].
        mask_h_idx (Tensor): [M] int64 rows of the places.
        mask_w_idx (Tensor): [M] int64 columns.
        col (Tensor): [C * kernel_h * kernel_w, M], overwritten.
        kernel_h (int): Height of the kernel.
        kernel_w (int): Its width.
        pad_h (int): Vertical padding with zeros.
        pad_w (int): Horizontal padding.
    """
    # a place may lie up to one kernel beyond the last row or column
    padded = F.pad(im[0], [pad_w, pad_w + kernel_w, pad_h, pad_h + kernel_h])
    rows = mask_h_idx + torch.arange(kernel_h, device=im.device)[:, None, None]
    columns = mask_w_idx + torch.arange(kernel_w, device=im.device)[:, None]
    col.copy_(padded[:, rows, columns].flatten(0, 2))


@operator
def masked_col2im_forward(
    col: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    im: Tensor,
    *,
    height: int,
    width: int,
    channels: int,
) -> None:
    """Put results at their places.

    Args:
        col (Tensor): [channels, M].
        mask_h_idx (Tensor): [M] int64 rows of the places.
        mask_w_idx (Tensor): [M] int64 columns.
        im (Tensor): [1, channels, height, width]; other places are left as they are.
        height (int): Not used, ``im`` has it, as the next two.
        width (int): Not used.
        channels (int): Not used.
    """
    im[0, :, mask_h_idx, mask_w_idx] = col.to(im.dtype)
