"""Processes with a part of the batch each compute what one computes with the whole (without BN)."""

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.model import MMDistributedDataParallel
from torch.utils.data import DataLoader

from mcl_mm.engine.start_check import check_batches
from mcl_mm.models import MontageTransform
from mcl_mm.models.multi_level_contrastive_head import gather_targets
from mcl_mm.registry import MODELS
from processes import run_ranks
from tiny_models import total

BATCH = 8  # a process
IMAGES = 13  # of a data set that fills no batch evenly


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


def make_targets(rank):
    """Both sides' targets of a process, ``(BATCH, 2)``: unit vectors whose angle tells whose they are."""
    angles = torch.arange(2 * BATCH).unflatten(0, (2, -1)) / 100 + rank
    return tuple(torch.stack([angles.cos(), angles.sin()], -1))


def one_rank(rank, config):
    torch.manual_seed(rank)  # DDP spreads the weights of rank 0
    model = MODELS.build(config).double()
    ddp = MMDistributedDataParallel(model)
    views = make_views(rank)
    transform = MontageTransform(num_sheets=(BATCH, 2, 1, 1))
    montages = transform(views[:4], views[4:], sources=make_sources(rank))
    loss = total(ddp(montages, mode='loss'))
    loss.backward()
    model.update_target(0.5)
    # Double length: gathering normalises.
    gathered = gather_targets(tuple(2 * side for side in make_targets(rank)))
    loader = DataLoader(range(IMAGES), BATCH // 4, sampler=DefaultSampler(range(IMAGES), seed=0))
    uneven = DataLoader(
        range(IMAGES), BATCH // 4, sampler=DefaultSampler(range(IMAGES), round_up=False)
    )
    with pytest.raises(ValueError, match='must get equally many') as error:
        check_batches(uneven, model)
    return dict(
        loss=loss.item(),
        gradients={n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None},
        state={name: value.numpy() for name, value in model.state_dict().items()},
        gathered=[side.numpy() for side in gathered],
        uneven=str(error.value),
        batches=[batch.tolist() for batch in loader],
    )


@pytest.fixture(
    params=[
        (2, dict()),
        (4, dict(joint='backbone')),
        (2, dict(joint='backbone', early_backward=True)),
    ],
    ids=['2', '4-backbone', '2-backbone-early'],
)
def results(request, group_norm_config, free_port):
    """What each of 2 or 4 processes has computed, in order of rank."""
    world_size, settings = request.param
    return run_ranks(one_rank, world_size, free_port, dict(group_norm_config, **settings))


def test_processes_equal_one(results, group_norm_config):
    ranks = range(len(results))
    torch.manual_seed(0)
    model = MODELS.build(group_norm_config).double()
    views = [torch.cat(parts) for parts in zip(*map(make_views, ranks))]
    sources = tuple(
        [torch.cat([part + BATCH * rank for rank, part in enumerate(parts)]) for parts in levels]
        for levels in (zip(*side) for side in zip(*map(make_sources, ranks)))
    )
    transform = MontageTransform(num_sheets=[len(ranks) * m for m in (BATCH, 2, 1, 1)])
    loss = total(model.loss(transform(views[:4], views[4:], sources=sources)))
    loss.backward()

    losses = torch.tensor([result['loss'] for result in results], dtype=torch.float64)
    torch.testing.assert_close(losses.mean(), loss.detach())
    for result in results:
        for name, p in model.named_parameters():
            if p.grad is not None:
                ours = torch.from_numpy(result['gradients'][name])
                torch.testing.assert_close(ours, p.grad, rtol=1e-7, atol=1e-10)
        for name, value in result['state'].items():  # targets stay alike on all processes
            assert (value == results[0]['state'][name]).all(), name

    expected = [torch.cat(parts) for parts in zip(*map(make_targets, ranks))]
    for result in results:  # the images of rank 0 first, on every process
        for side in range(2):
            gathered = torch.from_numpy(result['gathered'][side])
            torch.testing.assert_close(gathered, expected[side])

    assert all('round_up' in result['uneven'] for result in results)
    # Of 13 images the last batch is smaller, on all processes alike; none is left out.
    sizes = [[len(batch) for batch in result['batches']] for result in results]
    share = -(-IMAGES // len(ranks))
    assert sizes == [[2] * (share // 2) + [1] * (share % 2)] * len(ranks)
    assert {i for result in results for batch in result['batches'] for i in batch} == {
        *range(IMAGES)
    }
