"""Batch norm that synchronises within groups of processes (a double of it: see :mod:`synchronised`)."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from synchronised import BATCH, GROUPS, SETTINGS, build, make_montages, one_rank, total, train
from torch import nn

from conftest import ROOT, draw_images
from mcl_mm.engine.sync_bn import group_batch_norm, rank_groups, sharing
from mcl_mm.models.multi_level_contrastive_head import gather_targets
from tiny_runs import CONTEXT, final_state, write_config


def reference(config, settings):
    """What one process computes that normalises the joint batch of each group by itself.

    Returns:
        tuple: Mean loss, gradients, and the buffers of each group.
    """
    models = [build(config, **settings).train() for _ in GROUPS]
    models[1].load_state_dict(models[0].state_dict())
    batches = []
    for group in GROUPS:
        parts = [make_montages(rank) for rank in group]
        batches.append([join([part[side] for part in parts]) for side in range(2)])
    with torch.no_grad():
        targets = [
            torch.cat([model.embed_images(batch[side]) for model, batch in zip(models, batches)])
            for side in range(2)
        ]
    targets = gather_targets(targets)
    losses = []
    for index, (model, batch) in enumerate(zip(models, batches)):
        for name, side, target in zip('qk', batch, reversed(targets)):
            sources = [source + 2 * BATCH * index for source in side.sources]
            losses.append(total(model.head.loss(model.embed_tiles(side), sources, target, name)))
    loss = sum(losses) / len(GROUPS)
    loss.backward()
    pairs = zip(*(model.named_parameters() for model in models))
    gradients = {n: p.grad + other.grad for (n, p), (_, other) in pairs if p.requires_grad}
    return loss.item(), gradients, [dict(model.named_buffers()) for model in models]


def join(parts):
    """The batches of two processes as one."""
    sheets = tuple(torch.cat(level) for level in zip(*(part.sheets for part in parts)))
    sources = zip(*(part.sources for part in parts))
    return parts[0]._replace(
        sheets=sheets,
        sources=tuple(torch.cat([s + BATCH * i for i, s in enumerate(level)]) for level in sources),
    )


def test_two_and_two_processes_equal_two_joint_batches(tiny_config, free_port):
    """Loss, every gradient and every running statistic, with and without ``track_level``."""
    queue = CONTEXT.Queue()
    processes = [
        CONTEXT.Process(target=one_rank, args=(rank, free_port, tiny_config, queue))
        for rank in range(4)
    ]
    for process in processes:
        process.start()
    answers = sorted((queue.get(timeout=90) for _ in processes), key=lambda answer: answer[0])
    for process in processes:
        process.join()
    assert [met for _, met, _ in answers] == [{(0, 1)}, {(0, 1)}, {(2, 3)}, {(2, 3)}]
    for index, settings in enumerate(SETTINGS):
        results = [parts[index] for _, _, parts in answers]
        loss, gradients, buffers = reference(tiny_config, settings)
        assert sum(result['loss'] for result in results) / 4 == pytest.approx(loss, rel=1e-10)
        assert not compare(results[0]['buffers'], buffers[1])  # the groups differ
        for rank, result in enumerate(results):
            assert result['shared'] == 2
            assert compare(result['gradients'], gradients)
            assert compare(result['buffers'], buffers[rank // 2])


def compare(ours, expected) -> bool:
    assert ours.keys() == expected.keys()
    return all(
        torch.allclose(torch.from_numpy(ours[name]), value.detach(), rtol=1e-7, atol=1e-10)
        for name, value in expected.items()
        if value.is_floating_point()
    )


def run(config, work_dir, port, *options, resume=None):
    """A run of four processes; the groups that each has seen, and the log of the first."""
    arguments = [str(config), '--work-dir', str(work_dir)]
    arguments += ['--resume', str(resume)] if resume else []
    arguments += ['--cfg-options', *options]
    notes = f'{work_dir}_'
    processes = [CONTEXT.Process(target=train, args=(r, port, arguments, notes)) for r in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    log = Path(f'{notes}0.log').read_text(errors='replace')
    assert [process.exitcode for process in processes] == [0] * 4, log[-2000:]
    return [json.loads(Path(f'{notes}{rank}.json').read_text()) for rank in range(4)], log


def test_a_run_resumes_in_its_groups(tmp_path, free_port):
    """It goes on from its checkpoint, up to rounding.

    From its second step on DistributedDataParallel has other buckets, in which four gradients are summed in
    another order.
    """
    config = write_config(tmp_path, draw_images(tmp_path / 'images', 9), by_epoch=True)
    options = (
        'sync_bn_group=machine', 'train_cfg.max_epochs=2', 'log_level=INFO',
    )  # fmt: skip
    groups, log = run(config, tmp_path / 'whole', free_port, *options)
    assert groups == [[[0, 1]], [[0, 1]], [[2, 3]], [[2, 3]]]
    assert 'batch norm statistics of 4 images, from 2 of 4 process(es)' in log
    saved = tmp_path / 'whole/epoch_1.pth'
    again, _ = run(config, tmp_path / 'resumed', free_port, *options, resume=saved)
    assert again == groups
    ours, expected = (final_state(tmp_path / name) for name in ('resumed', 'whole'))
    assert ours['meta']['iter'] == expected['meta']['iter'] == 2
    torch.testing.assert_close(ours['state_dict'], expected['state_dict'], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ('setting', 'groups'),
    [
        (None, [[0, 1, 2, 3, 4, 5]]),
        ('all', [[0, 1, 2, 3, 4, 5]]),
        ('machine', [[0, 1, 4], [2, 3], [5]]),
        (1, [[0], [1], [2], [3], [4], [5]]),
        (2, [[0, 1], [2, 3], [4, 5]]),
        (6, [[0, 1, 2, 3, 4, 5]]),
    ],
)
def test_groups(setting, groups):
    assert rank_groups(setting, 'aabbac') == groups


@pytest.mark.parametrize('setting', ['machine', 'all', 8])
def test_one_process_is_a_group(setting):
    assert rank_groups(setting, ['a']) == [[0]]


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        (
            4,
            r"sync_bn_group=4 does not divide the 6 processes .* take one of 1, 2, 3, 6, 'machine'",
        ),
        (12, 'does not divide the 6 processes'),
        (0, "must be 'machine', 'all' or a number of processes, got 0"),
        (True, 'got True'),
        (2.0, 'got 2.0'),
        ('node', "got 'node'"),
    ],
)
def test_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        rank_groups(setting, 'aabbac')


def test_mmcvs_layers_are_refused(monkeypatch):
    """They have another way of naming a group, and compiled operators that few have."""
    layer = nn.BatchNorm2d(1)
    monkeypatch.setattr('mcl_mm.engine.sync_bn.is_synchronised', lambda module: module is layer)
    monkeypatch.setattr('mcl_mm.engine.sync_bn.all_gather_object', lambda name: [name] * 4)
    group_batch_norm(nn.Sequential(layer), 'machine')  # one machine is no group of its own
    with pytest.raises(ValueError, match="needs PyTorch's batch norm: set sync_bn='torch'"):
        group_batch_norm(nn.Sequential(layer), 2)


def test_without_synchronised_layers_nothing_is_shared():
    assert sharing(nn.Sequential(nn.BatchNorm2d(1))) is None
    assert sharing(nn.Sequential(nn.SyncBatchNorm(1))) == 1  # of the one process there is


@pytest.mark.parametrize(
    ('name', 'group'),
    [
        ('mcl_r50_100e', 'all'),
        ('mcl_r50_100e_8gpu', 'all'),
        ('mcl_r50_100e_fast', 'machine'),
        ('mcl_r50_small', 'machine'),
    ],
)
def test_recipes(name, group):
    cfg = Config.fromfile(ROOT / f'configs/{name}.py')
    assert (cfg.sync_bn, cfg.sync_bn_group) == ('torch', group)
