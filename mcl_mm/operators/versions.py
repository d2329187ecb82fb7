"""What ``mmdet.utils.collect_env`` prints of mmcv's operators."""

import importlib.metadata

import torch

__all__ = ['get_compiler_version', 'get_compiling_cuda_version']


def get_compiler_version() -> str:
    """The compiler of mmcv's operators: none, they come from torchvision."""
    return f'none, operators from torchvision {importlib.metadata.version("torchvision")}'


def get_compiling_cuda_version() -> str:
    """The CUDA version that PyTorch, and with it torchvision, was built for."""
    return torch.version.cuda or 'not available'
