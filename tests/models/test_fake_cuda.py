"""What a GPU would refuse, found without one."""

import pytest
import torch
from fake_cuda import RECIPES, FakeStep, Stream, table
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from conftest import ROOT

SHALLOW = {'model.backbone.depth': 18}


@pytest.mark.parametrize('name', RECIPES)
def test_every_recipe_under_autocast(name):
    """From bytes to the loss: nothing is left on the CPU, has a wrong dtype or is read."""
    step = FakeStep(name)
    convs = set()
    for module in step.model.backbone.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda _, __, out: convs.add((out.dtype, out.device.type)))
    loss, scalars = step.loss()
    assert convs == {(torch.bfloat16, 'cuda')}  # autocast is on
    assert loss.requires_grad
    assert {(value.dtype, value.device.type) for value in scalars.values()} == {
        (torch.float32, 'cuda')
    }


def left_on_the_cpu(embedding):
    return embedding + torch.ones(256)


def wrong_dtype(embedding):
    with torch.autocast('cuda', enabled=False):
        return embedding.float() @ torch.eye(256, dtype=torch.bfloat16, device='cuda')


def reads_a_value(embedding):
    return embedding if embedding.sum() > 0 else -embedding


@pytest.mark.parametrize(
    ('broken', 'error', 'message'),
    [
        (left_on_the_cpu, RuntimeError, 'devices,? cuda:0,?( and)? cpu'),
        (wrong_dtype, RuntimeError, 'mm of torch.bfloat16, torch.float32'),
        (reads_a_value, DataDependentOutputException, 'local_scalar_dense'),
    ],
)
def test_a_broken_model_fails(broken, error, message):
    step = FakeStep('mcl_r50_100e', settings=SHALLOW)
    predict = step.model.head.predict
    step.model.head.predict = lambda embedding, level: predict(broken(embedding), level)
    with pytest.raises(error, match=message):
        step.loss()


def test_what_is_counted():
    """Copies by hand: 8 views, and mean and deviation stay; launches are no views."""
    step, stream = FakeStep('mcl_r50_100e', settings=SHALLOW), Stream()
    with step.mode, stream:
        x = torch.empty(2, 3).to('cuda')  # a copy
        y = x.t().view(3, 2)[None]
        (y + 1).sum()  # two launches
    assert stream.counts == dict(copies=1, launches=2)


def test_the_documented_counts_are_those_of_the_step():
    page = (ROOT / 'docs/performance.md').read_text()
    for row in table().splitlines()[2:]:
        assert row in page
