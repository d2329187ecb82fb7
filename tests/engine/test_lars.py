"""LARS against mmpretrain's, over several steps."""

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.engine import optimizers
from torch import nn

from conftest import ROOT
from mcl_mm.engine import LARS

LibraryLARS = optimizers.LARS
NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')


def network():
    """Layers of every kind, among them one of zeros."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 16, 6), nn.Linear(6, 6)
    )
    nn.init.zeros_(net[4].weight)
    return net.append(nn.Linear(6, 2))


def groups(net):
    """A group for every parameter, as MMEngine's paramwise_cfg makes them."""
    return [
        dict(params=[p], lars_exclude=p.dim() == 1, weight_decay=0 if p.dim() == 1 else 1e-2)
        for p in net.parameters()
    ]


def train(net, optimizer, steps, first=0):
    """Steps with given gradients, so that rounding errors do not grow from step to step."""
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        optimizer.param_groups[0]['lr'] = 0.5 + step  # one group of its own rate
        for index, p in enumerate(net.parameters()):
            gradient = torch.randn(p.shape, generator=generator).to(p.device)
            p.grad = None if index > 7 and step < 2 else gradient  # the last layer joins later
        optimizer.step()
    return [p.detach().cpu() for p in net.parameters()]


SETTINGS = [
    dict(momentum=0.9, eps=0.0),
    dict(momentum=0.9),
    dict(momentum=0.0),
    dict(momentum=0.9, nesterov=True),
    dict(momentum=0.9, dampening=0.3, eta=0.02),
]


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_equals_the_librarys(settings):
    ours, theirs = network(), network()
    results = [
        train(net, kind(groups(net), lr=2.0, **settings), 5)
        for net, kind in ((ours, LARS), (theirs, LibraryLARS))
    ]
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-7)
    assert not torch.equal(results[0][0], network()[0].weight)


def test_double_precision_equals_to_the_last_digits():
    results = []
    for kind in (LARS, LibraryLARS):
        p = nn.Parameter(torch.linspace(-1, 2, 12, dtype=torch.float64).view(3, 4))
        optimizer = kind([p], lr=16.0, momentum=0.9, weight_decay=1e-5, eps=0.0)
        for step in range(4):
            p.grad = torch.sin(p.detach() * (step + 1))
            optimizer.step()
        results.append(p.detach())
    torch.testing.assert_close(results[0], results[1], rtol=1e-13, atol=0)


def test_zero_norms_leave_the_rate_alone():
    """Weights of zero, and gradients of zero, with eps = 0: no NaN, plain SGD."""
    zero, still = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3))
    zero.grad, still.grad = torch.ones(3), torch.zeros(3)
    LARS([zero, still], lr=0.5, weight_decay=0.1, eps=0.0).step()
    assert torch.equal(zero, torch.full((3,), -0.5))
    torch.testing.assert_close(still.detach(), torch.full((3,), 1 - 0.5 * 0.1))


def test_formula():
    p = nn.Parameter(torch.tensor([3.0, 4.0]))
    p.grad = torch.tensor([0.0, 2.0])
    LARS([p], lr=16.0, momentum=0.9, weight_decay=1e-1, eta=1e-3, eps=0.0).step()
    rate = 1e-3 * 5 / (2 + 1e-1 * 5)
    expected = [3 - rate * 16 * 0.3, 4 - rate * 16 * (2 + 0.4)]
    torch.testing.assert_close(p.detach(), torch.tensor(expected))


@pytest.mark.parametrize('kinds', [(LARS, LibraryLARS), (LibraryLARS, LARS)], ids=str)
def test_checkpoints_go_from_one_to_the_other(kinds):
    """Half of the steps with each, handing over the state."""
    nets = network(), network()
    optimizer = kinds[0](groups(nets[0]), lr=2.0, momentum=0.9)
    train(nets[0], optimizer, 3)
    nets[1].load_state_dict(nets[0].state_dict())
    second = kinds[1](groups(nets[1]), lr=1.0, momentum=0.0)
    second.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    expected = train(nets[0], optimizer, 3, first=3)
    torch.testing.assert_close(train(nets[1], second, 3, first=3), expected, rtol=1e-6, atol=1e-7)


def test_updates_parameters_of_equal_settings_together(monkeypatch):
    """The recipe's 170 groups of one parameter are two updates: adapted and excluded."""
    cfg = Config.fromfile(ROOT / 'configs/mcl_r50_100e_fast.py').optim_wrapper
    cfg.type = 'OptimWrapper'
    for key in ('loss_scale', 'dtype'):
        cfg.pop(key)
    net = nn.Sequential()
    for index in range(20):
        net.add_module(f'conv{index}', nn.Conv2d(2, 2, 1))
        net.add_module(f'bn{index}', nn.BatchNorm2d(2))
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        optimizer = build_optim_wrapper(net, cfg).optimizer
    assert type(optimizer) is LARS
    assert len(optimizer.param_groups) == 80
    sizes = []
    update = LARS.update
    monkeypatch.setattr(
        LARS, 'update', lambda self, ps, *a, **k: (sizes.append(len(ps)), update(self, ps, *a, **k))
    )
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert sorted(sizes) == [20, 60]


def test_closure_is_evaluated():
    p = nn.Parameter(torch.ones(2))
    optimizer = LARS([p], lr=0.1)

    def closure():
        loss = (p**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert (p < 1).all()


def test_hooks_may_withhold_the_update():
    """What NonFiniteHook does: without gradients, nothing moves."""
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.full((2,), float('nan'))
    optimizer = LARS([p], lr=0.1, momentum=0.9)
    optimizer.register_step_pre_hook(lambda *_: setattr(p, 'grad', None))
    optimizer.step()
    assert torch.equal(p, torch.ones(2))
    assert not optimizer.state[p]


def test_device_is_not_waited_for():
    """Meta tensors have no values, so reading any of them would fail."""
    p = nn.Parameter(torch.empty(3, 3, device='meta'))
    optimizer = LARS([p], lr=0.1, momentum=0.9)
    for _ in range(2):
        p.grad = torch.empty(3, 3, device='meta')
        optimizer.step()
    with pytest.raises(RuntimeError):
        LibraryLARS([p], lr=0.1).step()


@NEEDS_GPU
def test_gpu_equals_cpu():
    results = []
    for device in ('cpu', 'cuda'):
        net = network().to(device)
        results.append(train(net, LARS(groups(net), lr=2.0, momentum=0.9), 4))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-5)
