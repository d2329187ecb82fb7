"""What code outside the method asks about modules."""

from mmcv.ops import SyncBatchNorm as MMSyncBN
from mmengine.model import is_model_wrapper
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def unwrap(model: nn.Module) -> nn.Module:
    """The model itself, out of what DistributedDataParallel and its like put around it."""
    return model.module if is_model_wrapper(model) else model


def is_batch_norm(module: nn.Module) -> bool:
    """Whether a module is batch norm: PyTorch's, synchronised or not, MMCV's, or derived from them."""
    return isinstance(module, (_BatchNorm, MMSyncBN))


def is_synchronised(module: nn.Module) -> bool:
    """Whether a module is batch norm across processes, PyTorch's or MMCV's."""
    return isinstance(module, (nn.SyncBatchNorm, MMSyncBN))
