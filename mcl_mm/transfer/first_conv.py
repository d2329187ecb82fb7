"""Weights of RGB images for images of other channels: the first convolution, made to fit."""

import os

import torch
from torch import Tensor

from .checkpoint import read_checkpoint
from .export import refuse_itself, write

RGB = 3


def convert_first_conv(weight: Tensor, channels: int) -> Tensor:
    """The weight of a convolution on RGB images, for ``channels`` channels.

    From three channels on, the first three keep the weights of red, green and blue, and each further one
    gets their mean. With one or two, each gets the mean. All are multiplied by ``3 / channels``, so
    that an image with the same values in all channels gives the response of the gray RGB image.

    Args:
        weight (Tensor): ``(O, 3, h, w)``.
        channels (int): At least 1.

    Returns:
        Tensor: ``(O, channels, h, w)``, of the same type.
    """
    mean = weight.double().mean(dim=1, keepdim=True)
    kept = weight.double() if channels >= RGB else weight[:, :0].double()
    further = mean.expand(-1, channels - kept.shape[1], -1, -1)
    return (torch.cat([kept, further], dim=1) * (RGB / channels)).to(weight.dtype)


def first_convs(state_dict: dict[str, Tensor]) -> list[str]:
    """Names of the convolutions that take three channels: the first one, of each copy of a backbone.

    Raises:
        ValueError: There is none.
    """
    found = [name for name, w in state_dict.items() if w.dim() == 4 and w.shape[1] == RGB]
    # A depthwise or grouped convolution may have three channels a group further up.
    ends = {name.rpartition('backbone.')[2] for name in found[:1]}
    found = [name for name in found if name.rpartition('backbone.')[2] in ends]
    if not found:
        raise ValueError('no convolution takes three channels: are these weights of RGB images?')
    return found


def convert_file(src: str, dst: str, channels: int) -> list[str]:
    """Write a file of RGB weights for images of ``channels`` channels; all other layers stay as they are.

    Args:
        src (str): Any file of weights, see :func:`~mcl_mm.transfer.read_checkpoint`.
        dst (str): The file to write, PyTorch's or ``.safetensors``.
        channels (int): At least 1.

    Returns:
        list[str]: Names of the convolutions that were changed.

    Raises:
        OSError: A file cannot be read or written.
        ValueError: ``channels`` is no such number, or no convolution takes three channels.
    """
    if channels < 1:
        raise ValueError(f'channels must be a whole number from 1, got {channels}')
    refuse_itself(src, dst)
    checkpoint = read_checkpoint(src)
    weights, meta = dict(checkpoint['state_dict']), dict(checkpoint['meta'])
    names = first_convs(weights)
    for name in names:
        weights[name] = convert_first_conv(weights[name], channels)
    kept = {key: meta[key] for key in ('mcl_mm_version', 'epoch', 'iteration') if key in meta}
    if isinstance(meta.get('backbone'), dict):
        kept['backbone'] = dict(meta['backbone'], in_channels=channels)
    write(dst, weights, dict(kept, source=os.path.basename(src)))
    return names
