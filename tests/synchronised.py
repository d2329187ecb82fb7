"""Processes whose batch norm synchronises within groups, for ``engine/test_sync_bn.py``.

PyTorch's SyncBatchNorm refuses tensors on the CPU, so its ``forward`` has a double here, which computes the
same by all-reduces over the layer's ``process_group``, and notes whose images met; and
DistributedDataParallel does not look where such layers are. Everything else is real: MMEngine's conversion,
the layers, the groups, and whole runs.
"""

import copy
import json
import os
import platform

import torch
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel, convert_sync_batchnorm
from torch import distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import mcl_mm.engine.run
from mcl_mm.cli import main
from mcl_mm.engine.sync_bn import group_batch_norm, sharing
from mcl_mm.models import MontageTransform
from mcl_mm.registry import MODELS
from tiny_models import total

GROUPS = [[0, 1], [2, 3]]
BATCH = 8  # a process
SHEETS = (BATCH, 2, 1, 1)
SETTINGS = (dict(joint='all'), dict(joint='backbone', track_level=0))
MET = set()  # ranks of every group that has normalised together in this process


def synchronise(layer: nn.SyncBatchNorm, x: torch.Tensor) -> torch.Tensor:
    """The double of ``SyncBatchNorm.forward``."""
    if not layer.training:
        return F.batch_norm(
            x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=layer.eps
        )
    group = layer.process_group or distributed.group.WORLD
    MET.add(tuple(distributed.get_process_group_ranks(group)))
    count = distributed.get_world_size(group) * x[:, 0].numel()
    places, shape = [0, *range(2, x.dim())], (1, -1, *[1] * (x.dim() - 2))
    mean = all_reduce(x.sum(places), group=group) / count
    centred = x - mean.view(shape)
    variance = all_reduce(centred.square().sum(places), group=group) / count
    with torch.no_grad():
        layer.num_batches_tracked += 1
        layer.running_mean.lerp_(mean, layer.momentum)
        layer.running_var.lerp_(variance * count / (count - 1), layer.momentum)
    y = centred * (variance + layer.eps).rsqrt().view(shape)
    return y * layer.weight.view(shape) + layer.bias.view(shape) if layer.affine else y


def use_double() -> None:
    """In this process."""
    nn.SyncBatchNorm.forward = synchronise
    DistributedDataParallel._passing_sync_batchnorm_handle = lambda self, module: None


def make_montages(rank: int):
    """Both sides of the batch of a process, float64."""
    generator = torch.Generator().manual_seed(rank)
    views = [
        torch.randn(BATCH, 3, 64, 64, dtype=torch.float64, generator=generator) for _ in range(8)
    ]
    return MontageTransform(num_sheets=SHEETS)(views[:4], views[4:], generator=generator)


def build(config: dict, joint: str, track_level=None):
    config = copy.deepcopy(config)
    config['joint'], config['neck']['track_level'] = joint, track_level
    torch.manual_seed(0)
    return MODELS.build(config).double()


def one_rank(rank, port, config, queue):
    MMLogger.get_instance('mmengine', log_level='ERROR')
    use_double()
    distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=4
    )
    results = []
    for settings in SETTINGS:
        model = convert_sync_batchnorm(build(config, **settings), 'torch')
        group_batch_norm(model, 2)
        ddp = MMDistributedDataParallel(model, broadcast_buffers=False)
        loss = total(ddp(make_montages(rank), mode='loss'))
        loss.backward()
        learn = ((n, p) for n, p in model.named_parameters() if p.requires_grad)
        results.append(
            dict(
                loss=loss.item(),
                shared=sharing(copy.deepcopy(model)),  # as EMAHook copies it
                gradients={n: p.grad.numpy() for n, p in learn},
                buffers={name: value.numpy() for name, value in model.named_buffers()},
            )
        )
    queue.put((rank, MET, results))
    distributed.barrier()
    distributed.destroy_process_group()


def train(rank, port, arguments, notes):
    """A process of a run, on the first or second of two machines."""
    env = dict(
        RANK=rank, LOCAL_RANK=rank % 2, WORLD_SIZE=4, MASTER_ADDR='127.0.0.1', MASTER_PORT=port
    )
    os.environ.update({key: str(value) for key, value in env.items()})
    platform.node = lambda: f'machine{rank // 2}'
    use_double()
    adapt_to_cpu = mcl_mm.engine.run.adapt_to_cpu

    def adapt(cfg, *args):  # all that a CPU needs, but for batch norm
        sync_bn = cfg.sync_bn
        adapt_to_cpu(cfg, *args)
        cfg.sync_bn = sync_bn

    mcl_mm.engine.run.adapt_to_cpu = adapt
    with open(f'{notes}{rank}.log', 'ab') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        main('train', [*arguments, '--launcher', 'pytorch'])
    finally:
        with open(f'{notes}{rank}.json', 'w') as file:
            json.dump(sorted(MET), file)
