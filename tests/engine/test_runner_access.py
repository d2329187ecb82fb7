"""What is taken from MMEngine beside its public names is there, and does what it is taken for."""

import re

import pytest
import torch
from mmengine.hooks import LoggerHook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from conftest import ROOT
from mcl_mm.engine.runner_access import (
    accumulated,
    build_train_loop,
    logger_hook,
    resumes,
    set_start,
    start_file,
)

CHECKPOINT = dict(default_hooks=dict(checkpoint=dict(type='CheckpointHook', by_epoch=False)))


class Tiny(BaseModel):
    """One weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs, mode):
        return dict(loss=self.weight * torch.stack(inputs).mean())


@pytest.fixture
def make(tmp_path):
    def runner(**settings):
        model = Tiny()
        return Runner(
            model,
            str(tmp_path),
            train_dataloader=DataLoader(
                [torch.ones(1)] * 4, batch_size=2, collate_fn=lambda batch: dict(inputs=batch)
            ),
            train_cfg=dict(by_epoch=False, max_iters=2),
            optim_wrapper=OptimWrapper(
                torch.optim.SGD(model.parameters(), 0.1), accumulative_counts=3
            ),
            log_level='ERROR',
            **{**CHECKPOINT, **settings},
        )

    return runner


def test_start_is_the_one_the_runner_takes(make, tmp_path):
    trained = make()
    trained.train()
    path = str(tmp_path / 'iter_2.pth')
    assert (start_file(trained), resumes(trained)) == (None, False)
    fresh = make(load_from='other.pth', resume=True)
    assert (start_file(fresh), resumes(fresh)) == ('other.pth', True)
    set_start(fresh, path, resume=False)
    fresh.load_or_resume()
    assert torch.equal(fresh.model.weight, trained.model.weight)
    assert fresh.iter == 0
    resumed = make()
    set_start(resumed, path, resume=True)
    build_train_loop(resumed)
    resumed.load_or_resume()
    assert resumed.iter == 2


def test_train_loop_is_built_once(make):
    runner = make()
    build_train_loop(runner)
    loop = runner.train_loop
    build_train_loop(runner)
    assert runner.train_loop is loop
    assert runner.max_iters == 2


def test_accumulated(make):
    assert accumulated(make().optim_wrapper) == 3


def test_logger_hook(make):
    runner = make(default_hooks=dict(logger=dict(type='LoggerHook', interval=7)))
    assert logger_hook(runner).interval == 7
    without = make(default_hooks=dict(logger=None))
    assert logger_hook(without).interval == LoggerHook().interval


def test_no_other_file_reads_private_attributes_of_a_runner():
    private = re.compile(r'\b(runner|optim_wrapper|wrapper|train_loop)\._[a-z]')
    found = {
        path.name for path in (ROOT / 'mcl_mm').rglob('*.py') if private.search(path.read_text())
    }
    assert found == {'runner_access.py'}
