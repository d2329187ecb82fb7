"""One answer each: what is inside the wrapper, and what is batch norm."""

import pytest
import torch
from mmcv.ops import SyncBatchNorm as MMSyncBN
from mmengine.model import MMDistributedDataParallel
from torch import nn

from mcl_mm.models.modules import is_batch_norm, unwrap


class Own(nn.BatchNorm2d):
    """As timm's batch norm with an activation is one."""


@pytest.fixture
def group(tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def test_unwrap(group):
    layer = nn.Linear(1, 1)
    assert unwrap(layer) is layer
    assert unwrap(MMDistributedDataParallel(layer)) is layer
    assert unwrap(nn.DataParallel(layer)) is layer
    holder = nn.Module()
    holder.module = layer  # a part of that name is no wrapper
    assert unwrap(holder) is holder


def test_batch_norm(group):
    for yes in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, Own, MMSyncBN):
        assert is_batch_norm(yes(2)), yes
    for no in (nn.InstanceNorm2d(2), nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.Conv2d(1, 1, 1)):
        assert not is_batch_norm(no), no
