"""Two processes with half a batch each compute what one computes with the whole (without BN)."""

import torch
import torch.multiprocessing as mp
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel

from mcl_mm.datasets import MontageTransform
from mcl_mm.registry import MODELS

BATCH = 8  # a process


def make_sources(rank):
    generator = torch.Generator().manual_seed(rank)
    side = [torch.arange(BATCH)]
    side += [torch.randint(0, BATCH, (n,), generator=generator) for n in (2 * 4, 16, 64)]
    return side, [level.flip(0) if k else level for k, level in enumerate(side)]


def make_views(rank):
    generator = torch.Generator().manual_seed(10 + rank)
    return [
        torch.randn(BATCH, 3, 64, 64, dtype=torch.float64, generator=generator) for _ in range(8)
    ]


def total(losses):
    return sum(value for key, value in losses.items() if key.startswith('loss'))


def one_rank(rank, port, config, queue):
    torch.set_num_threads(1)
    MMLogger.get_instance('mmengine', log_level='ERROR')
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    torch.manual_seed(rank)  # DDP spreads the weights of rank 0
    model = MODELS.build(config).double()
    ddp = MMDistributedDataParallel(model)
    views = make_views(rank)
    transform = MontageTransform(num_sheets=(BATCH, 2, 1, 1))
    montages = transform(views[:4], views[4:], sources=make_sources(rank))
    loss = total(ddp(montages, mode='loss'))
    loss.backward()
    model.update_target(0.5)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    queue.put((rank, loss.item(), gradients, state))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(group_norm_config, free_port):
    context = mp.get_context('spawn')
    queue = context.Queue()
    processes = [
        context.Process(target=one_rank, args=(r, free_port, group_norm_config, queue))
        for r in range(2)
    ]
    for process in processes:
        process.start()
    results = {rank: rest for rank, *rest in (queue.get(timeout=180) for _ in processes)}
    for process in processes:
        process.join()

    torch.manual_seed(0)
    model = MODELS.build(group_norm_config).double()
    views = [torch.cat(pair) for pair in zip(make_views(0), make_views(1))]
    sources = tuple(
        [torch.cat([a, b + BATCH]) for a, b in zip(first, second)]
        for first, second in zip(make_sources(0), make_sources(1))
    )
    transform = MontageTransform(num_sheets=(2 * BATCH, 4, 2, 2))
    loss = total(model.loss(transform(views[:4], views[4:], sources=sources)))
    loss.backward()

    losses = [results[rank][0] for rank in range(2)]
    torch.testing.assert_close(torch.tensor(sum(losses) / 2).double(), loss.detach())
    for rank in range(2):
        for name, p in model.named_parameters():
            if p.grad is not None:
                ours = torch.from_numpy(results[rank][1][name])
                torch.testing.assert_close(ours, p.grad, rtol=1e-7, atol=1e-10)
    for name, value in results[0][2].items():  # targets stay alike on all processes
        assert (value == results[1][2][name]).all(), name
