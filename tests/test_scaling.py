"""The tables of docs/scaling.md, computed from the recipe; `python tests/test_scaling.py` prints them.

What is exchanged is counted from the model itself, operator by operator on the meta device. Times follow
from the assumptions that the page states.
"""

from contextlib import nullcontext
from math import log2

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from conftest import ROOT
from mcl_mm.models import MCL
from mcl_mm.registry import MODELS

PAGE = ROOT / 'docs/scaling.md'
RECIPE = Config.fromfile(ROOT / 'configs/mcl_r50_100e.py')
BATCH = RECIPE.train_dataloader.batch_size  # a process
IMAGENET = 1281167
GPUS = (8, 32, 128, 512)

# Assumptions, not measurements.
COMPUTE = 125e12  # operations a second a GPU
INSIDE = 200e9  # bytes a second between the 8 GPUs of a machine
LINKS = (12.5e9, 100e9)  # bytes a second into and out of a machine
LAUNCH, HOP_INSIDE, HOP_BETWEEN = 15e-6, 1.5e-6, 6e-6  # seconds


class Counts:
    """What one step of one process computes and exchanges."""

    def __init__(self, model: MCL, joint: str, batch: int = BATCH) -> None:
        model.joint, self.batch = joint, batch
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.target_parameters = sum(p.numel() for p in model.target.parameters())
        self.norms = []  # of every call of a BN layer: channels, and whether it is the target's
        hooks = []
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                of_target = name.startswith('target.')
                hooks.append(
                    module.register_forward_hook(
                        lambda layer, *_, t=of_target: self.norms.append((layer.num_features, t))
                    )
                )
        views = [torch.empty(batch, 3, 224, 224, device='meta') for _ in range(8)]
        montages = model.data_preprocessor.montage(views[:4], views[4:])
        self.tiles = sum(len(source) for side in montages for source in side.sources)
        self.embedding = model.head.predictors[0].fc1.out_features
        with FlopCounterMode(display=False) as counter:
            losses = model.loss(montages)
            sum(value for key, value in losses.items() if key.startswith('loss')).backward()
        self.flops = counter.get_total_flops()
        for hook in hooks:
            hook.remove()

    @property
    def forward_calls(self) -> int:
        return len(self.norms)

    @property
    def backward_calls(self) -> int:
        return sum(not of_target for _, of_target in self.norms)

    @property
    def forward_bytes(self) -> int:
        """What a process gives into the all-gathers: mean, variance of each channel and a count."""
        return sum(4 * (2 * channels + 1) for channels, _ in self.norms)

    @property
    def backward_bytes(self) -> int:
        """What is all-reduced: two sums for each channel."""
        return sum(4 * 2 * channels for channels, of_target in self.norms if not of_target)

    @property
    def target_bytes(self) -> int:
        return 2 * self.batch * self.embedding * 4

    def logit_bytes(self, gpus: int) -> int:
        return self.tiles * self.batch * gpus * 4

    @property
    def state_bytes(self) -> int:
        """Weights, their gradients and momentum, and the target."""
        return 4 * (3 * self.parameters + self.target_parameters)


def seconds(counts: Counts, gpus: int, link: float) -> dict[str, float]:
    """The parts of a step, by the formulas of the page."""
    machines = gpus // 8
    bandwidth = link if machines > 1 else INSIDE
    ring = LAUNCH + (gpus - machines) * HOP_INSIDE + (machines - 1) * HOP_BETWEEN
    tree = LAUNCH + 2 * (7 * HOP_INSIDE + log2(machines) * HOP_BETWEEN)
    return dict(
        compute=counts.flops / COMPUTE,
        gradients=tree + 2 * (gpus - 1) / gpus * 4 * counts.parameters / bandwidth,
        norms=counts.forward_calls * ring
        + counts.forward_bytes * (gpus - 1) / bandwidth
        + counts.backward_calls * tree
        + 2 * counts.backward_bytes / bandwidth,
        targets=ring + counts.target_bytes * (gpus - 1) / bandwidth,
    )


def efficiency(parts: dict[str, float]) -> float:
    """Share of a step spent computing; half of it can hide the gradients' all-reduce."""
    exposed = max(0, parts['gradients'] - parts['compute'] / 2)
    return parts['compute'] / (parts['compute'] + exposed + parts['norms'] + parts['targets'])


def table(*rows: list) -> str:
    lines = ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows]
    return '\n'.join([lines[0], '| --- ' * len(rows[0]) + '|', *lines[1:]])


def tables() -> list[str]:
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(RECIPE.model).to('meta')
    kinds = {'published': 'all', 'joint backbone': 'backbone', 'routed': 'none'}
    counts = {name: Counts(model, joint) for name, joint in kinds.items()}
    published = counts['published']
    rate = RECIPE.optim_wrapper.optimizer.lr / RECIPE.auto_scale_lr.base_batch_size
    step = table(
        ['a step of one process', *counts],
        ['operations, T', *(f'{c.flops / 1e12:.1f}' for c in counts.values())],
        ['parameters that learn, M', *(f'{c.parameters / 1e6:.2f}' for c in counts.values())],
        ['weights, gradients, momentum, target, MB']
        + [f'{c.state_bytes / 1e6:.0f}' for c in counts.values()],
        ['BN calls forward (all-gather)', *(c.forward_calls for c in counts.values())],
        ['BN calls backward (all-reduce)', *(c.backward_calls for c in counts.values())],
        ['BN statistics forward, kB', *(f'{c.forward_bytes / 1e3:.0f}' for c in counts.values())],
        ['BN sums backward, kB', *(f'{c.backward_bytes / 1e3:.0f}' for c in counts.values())],
    )
    traffic = table(
        ['GPUs', 'images a step', 'learning rate', 'steps an epoch', 'targets received, MB',
         'gradients sent, MB', 'BN statistics received, MB', 'targets to tell apart',
         'logits, MB'],
        *(
            [n, BATCH * n, f'{rate * BATCH * n:g}', IMAGENET // (BATCH * n),
             f'{published.target_bytes * (n - 1) / 1e6:.1f}',
             f'{2 * (n - 1) / n * 4 * published.parameters / 1e6:.0f}',
             f'{published.forward_bytes * (n - 1) / 1e6:.1f}',
             BATCH * n,
             f'{published.logit_bytes(n) / 1e6:.0f}']
            for n in GPUS
        ),
    )  # fmt: skip
    rows = []
    for name, c in counts.items():
        for link in LINKS:
            for n in GPUS[link != LINKS[0] :]:
                parts = seconds(c, n, link)
                rows.append(
                    [name, n, '-' if n == 8 else f'{link / 1e9:g}']
                    + [
                        f'{1e3 * parts[p]:.1f}'
                        for p in ('compute', 'gradients', 'norms', 'targets')
                    ]
                    + [f'{efficiency(parts):.0%}', f'{efficiency({**parts, "norms": 0}):.0%}']
                )
    times = table(
        ['model', 'GPUs', 'link, GB/s', 'compute, ms', 'gradients, ms', 'BN, ms', 'targets, ms',
         'efficiency', 'without SyncBN'],
        *rows,
    )  # fmt: skip
    rows = []
    for n in GPUS[1:]:
        c = Counts(model, 'all', BATCH * 32 // n)
        parts = seconds(c, n, LINKS[-1])
        rows.append(
            [n, c.batch, f'{c.flops / 2e9 / c.batch:.0f}']
            + [f'{1e3 * parts[p]:.1f}' for p in ('compute', 'norms')]
            + [f'{efficiency(parts):.0%}', f'{efficiency({**parts, "norms": 0}):.0%}']
        )
    fixed = table(
        ['GPUs', 'images a GPU', 'G multiply-adds an image', 'compute, ms', 'BN, ms',
         'efficiency', 'without SyncBN'],
        *rows,
    )  # fmt: skip
    return [step, traffic, times, fixed]


@pytest.fixture(scope='module')
def computed():
    with pytest.MonkeyPatch.context() as patch:  # autocast knows no meta device
        patch.setattr(torch, 'autocast', lambda *_, **__: nullcontext())
        return tables()


@pytest.mark.parametrize('number', range(4))
def test_page_shows_what_the_recipe_gives(computed, number):
    assert computed[number] in PAGE.read_text()


if __name__ == '__main__':
    torch.autocast = lambda *_, **__: nullcontext()
    print(*tables(), sep='\n\n')
