"""The numbers of docs/scaling.md; ``python tests/scaling_table.py`` prints its tables and sentences.

What a step computes and exchanges is counted from the recipe's model, operator by operator on the meta
device. Rates of GPUs are published ones. Times of exchanges follow from the assumptions below.
Units: operations, bytes and seconds; a multiply-add is two operations.
"""

from contextlib import nullcontext
from copy import deepcopy
from functools import cache
from math import log2
from pathlib import Path
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

import mcl_mm  # noqa: F401
from mcl_mm.registry import MODELS

RECIPE = Config.fromfile(Path(__file__).parents[1] / 'configs/mcl_r50_100e.py')
BATCH = RECIPE.train_dataloader.batch_size  # images a process
IMAGENET, EPOCHS = 1281167, 100
GPUS, MACHINE = (8, 32, 128, 512), 8
RECIPES = {'published': 'all', 'joint backbone': 'backbone', 'routed': 'none'}  # model.joint
PEERS = {'MoCo v2': 16.3e9, 'BYOL': 32.5e9}  # multiply-adds an image (docs/peers.md)

# Published: images a second of ResNet-50 in training, mixed precision, on one GPU and on eight.
RATES = {'V100 16 GB': (1200, 8322), 'A100 80 GB': (2470, 16621)}
# Published: minutes to train it on eight GPUs, MLPerf Training 2.0 and 3.0.
A100_MINUTES, H100_MINUTES = 28.7, 13.466
PEAK = {'V100 16 GB': 125e12, 'A100 80 GB': 312e12, 'H100': 989e12}  # operations/s, half precision
RESNET50 = 2 * (
    3 * 4.089e9 - 0.118e9
)  # operations an image; the first conv's input has no gradient

# Assumptions, not measurements.
INSIDE = 200e9  # bytes a second between the 8 GPUs of a machine
LINKS = (12.5e9, 100e9)  # bytes a second into and out of a machine
LAUNCH, HOP_INSIDE, HOP_BETWEEN = 15e-6, 1.5e-6, 6e-6  # seconds


class Counts:
    """What one step of one process computes and exchanges.

    Args:
        joint (str): As in the model.
        batch (int): Images of a process.
    """

    def __init__(self, joint: str, batch: int = BATCH) -> None:
        model = deepcopy(build())
        model.joint, self.batch = joint, batch
        self.parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        self.target_parameters = sum(p.numel() for p in model.target.parameters())
        self.norms = []  # of every call of a BN layer: channels, and whether it is the target's
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                of_target = name.startswith('target.')
                module.register_forward_hook(
                    lambda layer, *_, t=of_target: self.norms.append((layer.num_features, t))
                )
        views = [torch.empty(batch, 3, 224, 224, device='meta') for _ in range(8)]
        montages = model.data_preprocessor.montage(views[:4], views[4:])
        self.tiles = sum(len(source) for side in montages for source in side.sources)
        self.embedding = model.head.predictors[0].fc1.out_features
        with (
            mock.patch.object(
                torch, 'autocast', return_value=nullcontext()
            ),  # knows no meta device
            FlopCounterMode(display=False) as counter,
        ):
            losses = model.loss(montages)
            sum(value for key, value in losses.items() if key.startswith('loss')).backward()
        self.flops = counter.get_total_flops()
        self.forward_calls = len(self.norms)
        self.backward_calls = sum(not of_target for _, of_target in self.norms)
        # Into the all-gathers: mean and deviation of each channel, and a count; all-reduced: two sums.
        self.forward_bytes = sum(4 * (2 * channels + 1) for channels, _ in self.norms)
        self.backward_bytes = sum(8 * channels for channels, t in self.norms if not t)
        self.gradient_bytes = 4 * self.parameters
        self.target_bytes = 2 * batch * self.embedding * 4
        self.state_bytes = 4 * (3 * self.parameters + self.target_parameters)

    def logit_bytes(self, gpus: int) -> int:
        """Logits of a process's tiles against the targets of all."""
        return self.tiles * self.batch * gpus * 4


@cache
def build() -> torch.nn.Module:
    """The recipe's model without weights."""
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        return MODELS.build(RECIPE.model).to('meta')


counts = cache(Counts)


def sustained() -> dict[str, tuple[float, float]]:
    """Operations a second of a GPU: cautious (one of eight) and hopeful (alone)."""
    found = {name: (eight / 8 * RESNET50, one * RESNET50) for name, (one, eight) in RATES.items()}
    faster = A100_MINUTES / H100_MINUTES
    found['H100'] = tuple(rate * faster for rate in found['A100 80 GB'])
    return found


def soco() -> float:
    """SoCo's multiply-adds an image, on paper: views of 224, 224 and 112 pixels, 4 boxes in each.

    Online network (forward and backward: 3) and target (1) see all views. A box passes the detector's
    head of 4 convs and a linear layer.
    """
    model = build()
    with FlopCounterMode(display=False) as counter:
        model.neck.fpn(model.backbone(torch.empty(1, 3, 224, 224, device='meta')))
    box = 4 * 49 * 9 * 256 * 256 + 49 * 256 * 1024
    return (3 + 1) * ((1 + 1 + 1 / 4) * counter.get_total_flops() / 2 + 3 * 4 * box)


def ring(gpus: int) -> float:
    """Seconds an all-gather waits."""
    machines = max(1, gpus // MACHINE)
    return LAUNCH + (gpus - machines) * HOP_INSIDE + (machines - 1) * HOP_BETWEEN


def tree(gpus: int) -> float:
    """Seconds an all-reduce waits."""
    return LAUNCH + 2 * (7 * HOP_INSIDE + log2(max(1, gpus // MACHINE)) * HOP_BETWEEN)


def norms(c: Counts, gpus: int, link: float) -> dict[str, float]:
    """What batch norm synchronised over a group of GPUs waits for."""
    bandwidth = link if gpus > MACHINE else INSIDE
    exchanged = c.forward_bytes * (gpus - 1) + 2 * c.backward_bytes
    return dict(
        forward=c.forward_calls * ring(gpus),
        backward=c.backward_calls * tree(gpus),
        bytes=exchanged / bandwidth,
    )


def seconds(c: Counts, gpus: int, link: float, rate: float) -> dict[str, float]:
    """The parts of a step, by the formulas of the page."""
    bandwidth = link if gpus > MACHINE else INSIDE
    return dict(
        compute=c.flops / rate,
        gradients=tree(gpus) + 2 * (gpus - 1) / gpus * c.gradient_bytes / bandwidth,
        targets=ring(gpus) + c.target_bytes * (gpus - 1) / bandwidth,
        everywhere=sum(norms(c, gpus, link).values()),
        machine=sum(norms(c, MACHINE, link).values()),
        nowhere=0.0,
    )


def efficiency(parts: dict[str, float], group: str) -> float:
    """Share of a step spent computing; half of it can hide the gradients' all-reduce."""
    exposed = max(0, parts['gradients'] - parts['compute'] / 2)
    return parts['compute'] / (parts['compute'] + exposed + parts['targets'] + parts[group])


def table(*rows: list) -> str:
    """A Markdown table, titles first."""
    lines = ['| ' + ' | '.join(map(str, row)) + ' |' for row in rows]
    return '\n'.join([lines[0], '| --- ' * len(rows[0]) + '|', *lines[1:]])


def step_table() -> str:
    """What a process computes and exchanges."""
    every = [counts(joint) for joint in RECIPES.values()]
    return table(
        ['a step of one process', *RECIPES],
        ['operations, T', *(f'{c.flops / 1e12:.1f}' for c in every)],
        ['parameters that learn, M', *(f'{c.parameters / 1e6:.2f}' for c in every)],
        [
            'weights, gradients, momentum, target, MB',
            *(f'{c.state_bytes / 1e6:.0f}' for c in every),
        ],
        ['BN calls forward (all-gather)', *(c.forward_calls for c in every)],
        ['BN calls backward (all-reduce)', *(c.backward_calls for c in every)],
        ['BN statistics forward, kB', *(f'{c.forward_bytes / 1e3:.0f}' for c in every)],
        ['BN sums backward, kB', *(f'{c.backward_bytes / 1e3:.0f}' for c in every)],
    )


def traffic_table() -> str:
    """What grows with the number of processes."""
    c = counts('backbone')
    rate = RECIPE.optim_wrapper.optimizer.lr / RECIPE.auto_scale_lr.base_batch_size
    titles = ['GPUs', 'images a step', 'learning rate', 'steps an epoch', 'targets received, MB',
              'gradients sent, MB', 'BN statistics received, MB', 'the same in groups of 8, MB',
              'targets to tell apart', 'logits, MB']  # fmt: skip
    return table(titles, *(
        [n, BATCH * n, f'{rate * BATCH * n:g}', IMAGENET // (BATCH * n),
         f'{c.target_bytes * (n - 1) / 1e6:.1f}',
         f'{2 * (n - 1) / n * c.gradient_bytes / 1e6:.0f}',
         f'{c.forward_bytes * (n - 1) / 1e6:.1f}', f'{c.forward_bytes * 7 / 1e6:.1f}',
         BATCH * n, f'{c.logit_bytes(n) / 1e6:.0f}']
        for n in GPUS
    ))  # fmt: skip


def rate_table() -> str:
    """What a GPU sustains."""
    images = dict(RATES, H100=('-', '-'))
    return table(
        ['GPU', 'ResNet-50, images/s, one GPU', 'eight', 'cautious, T operations/s', 'hopeful', 'of peak'],
        *(
            [name, *images[name], f'{low / 1e12:.1f}', f'{high / 1e12:.1f}',
             f'{low / PEAK[name]:.0%} to {high / PEAK[name]:.0%}']
            for name, (low, high) in sustained().items()
        ),
    )  # fmt: skip


def hours_table() -> str:
    """GPU-hours of computing, and hours on 32 GPUs, for 100 epochs of ImageNet."""
    costs = {f'MCL, {name}': counts(joint).flops / 2 / BATCH for name, joint in RECIPES.items()}
    costs |= {**PEERS, 'SoCo, on paper': soco()}
    rows = []
    for name, cost in costs.items():
        total = 2 * cost * IMAGENET * EPOCHS / 3600
        rows.append([name, f'{cost / 1e9:.1f}'])
        for low, high in sustained().values():
            rows[-1] += [f'{total / low:.0f}, {total / high:.0f}']
        low, high = sustained()['A100 80 GB']
        rows[-1].append(f'{total / low / 32:.1f}, {total / high / 32:.1f}')
    return table(
        ['100 epochs of', 'G multiply-adds an image', *(f'{name}, GPU-hours' for name in sustained()),
         'hours on 32 A100'],
        *rows,
    )  # fmt: skip


def efficiency_table() -> str:
    """Efficiency of each recipe, over the slow link."""
    rows = []
    for gpu in ('A100 80 GB', 'H100'):
        for name, joint in RECIPES.items():
            for n in GPUS:
                parts = seconds(counts(joint), n, LINKS[0], sustained()[gpu][1])
                shown = ('compute', 'gradients', 'targets', 'everywhere', 'machine')
                groups = ('everywhere', 'machine', 'nowhere')
                rows.append(
                    [gpu, name, n, *(f'{1e3 * parts[part]:.1f}' for part in shown)]
                    + [f'{efficiency(parts, group):.0%}' for group in groups]
                )
    return table(
        ['GPU', 'recipe', 'GPUs', 'compute, ms', 'gradients, ms', 'targets, ms', 'BN over all, ms',
         'BN in a machine, ms', 'efficiency, BN over all', 'in a machine', 'in a process'],
        *rows,
    )  # fmt: skip


def brake_table() -> str:
    """What the recommended recipe waits for."""
    c, rows = counts('backbone'), []
    for n in GPUS:
        for link in LINKS[: 1 if n == MACHINE else None]:
            over_all, inside = norms(c, n, link), norms(c, MACHINE, link)
            parts = seconds(c, n, link, sustained()['A100 80 GB'][1])
            exposed = max(0, parts['gradients'] - parts['compute'] / 2)
            rows.append(
                [n, '-' if n == MACHINE else f'{link / 1e9:g}']
                + [f'{1e3 * over_all[key]:.1f} / {1e3 * inside[key]:.1f}' for key in over_all]
                + [
                    f'{1e3 * parts["targets"]:.1f}',
                    f'{1e3 * parts["gradients"]:.1f}',
                    f'{exposed:.0f}',
                ]
                + [f'{efficiency(parts, "everywhere"):.0%} / {efficiency(parts, "machine"):.0%}']
            )
    return table(
        ['GPUs', 'link, GB/s', 'BN forward, waiting, ms', 'BN backward, waiting, ms', 'BN bytes, ms',
         'targets, ms', 'gradients, ms', 'of them not hidden, ms', 'efficiency'],
        *rows,
    )  # fmt: skip


def fixed_batch_table() -> str:
    """The same 4096 images a step on more GPUs, joint backbone."""
    rows = []
    for n in GPUS[1:]:
        c = counts('backbone', 4096 // n)
        parts = seconds(c, n, LINKS[1], sustained()['A100 80 GB'][1])
        rows.append(
            [n, c.batch, f'{c.flops / 2e9 / c.batch:.1f}', f'{1e3 * parts["compute"]:.1f}']
            + [f'{efficiency(parts, group):.0%}' for group in ('everywhere', 'machine', 'nowhere')]
        )
    return table(
        ['GPUs', 'images a GPU', 'G multiply-adds an image', 'compute, ms',
         'efficiency, BN over all', 'in a machine', 'in a process'],
        *rows,
    )  # fmt: skip


def sentences() -> list[str]:
    """Numbers that stand in the page's text, with the words around them."""
    c, rate = counts('backbone'), sustained()['A100 80 GB']
    return [
        f'`2 x {BATCH} x {c.embedding}` float32 = {c.target_bytes / 1e6:.2f} MB',
        f'({c.tiles}: {c.tiles // 2} a side)',
        f'{rate[1] / 1e12:.0f} T operations a second, {rate[1] / PEAK["A100 80 GB"]:.0%} of the peak',
        f'{A100_MINUTES / H100_MINUTES:.2f} times',
        f'{RESNET50 / 1e9:.1f} G operations',
        ' '.join(f'{counts(joint).forward_calls} all-gathers ({name}),'
                 for name, joint in RECIPES.items()).removesuffix(','),
        f'{sum(norms(c, 512, LINKS[1]).values()) / sum(norms(c, 8, LINKS[1]).values()):.0f} times as long',
        f'about {3 * c.logit_bytes(512) / 1e9:.0f} GB goes to them',
        f'{c.state_bytes / 1e6:.0f} MB of weights',
        f'{IMAGENET // (BATCH * 512)} steps, a run {IMAGENET // (BATCH * 512) * EPOCHS}',
    ]  # fmt: skip


TABLES = (step_table, traffic_table, rate_table, hours_table, efficiency_table, brake_table,
          fixed_batch_table)  # fmt: skip


if __name__ == '__main__':
    print(*(make() for make in TABLES), *sentences(), sep='\n\n')
