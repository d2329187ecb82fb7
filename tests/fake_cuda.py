"""A training step on a GPU that is not there, and what it would ask of one.

Fake tensors say that they are on a GPU, and have no values. ``python tests/fake_cuda.py`` prints the table of
docs/performance.md.
"""

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mcl_mm.models.channel_augmentation import ChannelAugmentation
from mcl_mm.models.photometric import PhotometricAugmentation, Step
from mcl_mm.models.routing import JOINT
from mcl_mm.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
# Recipes of pre-training without the ablations, but one of those that share a model.
RECIPES = {
    str(Config.fromfile(path).model): str(path.relative_to(CONFIGS).with_suffix(''))
    for folder in ('.', 'backbones', 'channels', 'distill', 'quickstart')
    for path in sorted((CONFIGS / folder).glob('*.py'))
    if not re.search('mask-rcnn|retinanet|finetune|mocov2|densecl|byol|^supervised', path.stem)
}.values()
# Operators that launch nothing: their result is memory of their input, or memory without values.
NO_LAUNCH = {
    'alias', 'as_strided', 'detach', 'device', 'empty', 'empty_like', 'empty_strided', 'expand', 'new_empty',
    'new_empty_strided', 'permute', 'select', 'slice', 'split', 'split_with_sizes', 'squeeze', 't',
    'transpose', 'unbind', 'unsqueeze', 'view', '_unsafe_view',
}  # fmt: skip


class FakeStep:
    """A recipe's model with fake tensors, built for real first, since building reads values.

    Augmentation draws its random numbers for real too.

    Args:
        name (str): A recipe, relative to ``configs``.
        device (str): ``'cuda'``, or ``'cpu'``: PyTorch 2.11 has no backward pass on a GPU that is not there.
            Defaults to ``'cuda'``.
        batch (int): Images. Defaults to 8.
        settings (dict, optional): As of ``--cfg-options``. Defaults to None.
    """

    def __init__(self, name: str, device: str = 'cuda', batch: int = 8, settings=None) -> None:
        self.cfg = Config.fromfile(CONFIGS / f'{name}.py')
        self.cfg.merge_from_dict(settings or {})
        self.device, self.batch = device, batch
        with DefaultScope.overwrite_default_scope('mcl_mm'):
            self.model = MODELS.build(self.cfg.model).train()
        self.mode = FakeTensorMode(allow_non_fake_inputs=False)
        fake_module(self.model, self.mode, device)
        if 'teacher' in self.cfg.model:  # is no part of the model, and moves by itself
            teacher = self.model.teacher.backbone
            fake_module(teacher, self.mode, device)
            teacher.to = lambda _: teacher
        self.model.data_preprocessor._device = torch.device(device)
        for part in self.model.modules():
            if isinstance(part, (ChannelAugmentation, PhotometricAugmentation)):
                part.plan = self.drawn_for_real(part.plan)

    def drawn_for_real(self, plan: Callable) -> Callable:
        """The same plan, with fake tensors on the CPU."""

        def fake(value: Any) -> Any:
            if isinstance(value, Step):
                return Step(value.change, fake(value.index), *map(fake, value.arguments))
            if isinstance(value, (list, tuple)):
                return [fake(part) for part in value]
            return self.mode.from_tensor(value) if torch.is_tensor(value) else value

        def drawn(*args, **kwargs) -> list:
            with unset_fake_temporarily():
                planned = plan(*args, **kwargs)
            return fake(planned)

        return drawn

    def preprocess(self) -> dict:
        """From the loader's bytes on the CPU to sheets on the device."""
        settings = self.cfg.model.data_preprocessor
        native = 'photometric' in settings
        sides = [224 // ratio if native else 224 for ratio in settings.montage.ratios] * 2
        if 'teacher' in self.cfg.model:
            sides.append(self.cfg.model.teacher.size)
        shape = self.batch, len(settings.mean)
        views = [torch.empty(*shape, side, side, dtype=torch.uint8) for side in sides]
        samples = [DataSample(gt_label=torch.zeros(1, dtype=torch.long)) for _ in range(self.batch)]
        return self.model.data_preprocessor(dict(inputs=views, data_samples=samples), training=True)

    def loss(self, watch: Optional[AbstractContextManager] = None) -> tuple[Tensor, dict]:
        """The sum to be minimised and all scalars, in bfloat16 autocast; ``watch`` sees the operators."""
        with self.mode, OneDtype(), watch or nullcontext():
            batch = self.preprocess()
            with autocast(self.device):
                scalars = self.model(**batch, mode='loss')
                loss, _ = self.model.parse_losses(scalars)
        return loss, scalars

    def update(self, watch: AbstractContextManager) -> None:
        """Clipping, optimiser and moving average, with gradients from nowhere."""
        learn = [p for p in self.model.parameters() if p.requires_grad]
        wrapper = copy.deepcopy(self.cfg.optim_wrapper)
        wrapper.type = 'OptimWrapper'
        for key in ('dtype', 'loss_scale'):
            wrapper.pop(key, None)
        with DefaultScope.overwrite_default_scope('mcl_mm'), self.mode:
            optimizer = build_optim_wrapper(self.model, wrapper).optimizer
            for parameter in learn:
                parameter.grad = torch.empty_like(parameter)
            optimizer.step()  # makes its buffers
            with watch:
                nn.utils.clip_grad_norm_(learn, wrapper.clip_grad.max_norm)
                optimizer.step()
                self.model.update_target(0.99)


def fake_module(module: nn.Module, mode: FakeTensorMode, device: str) -> None:
    """Put fake tensors in place of a module's parameters and buffers; shared ones stay shared."""
    done = {}

    def convert(tensor: Tensor) -> Tensor:
        if id(tensor) not in done:
            value = mode.from_tensor(tensor.detach())
            with mode:
                value = value.to(device)
                if isinstance(tensor, nn.Parameter):
                    value = nn.Parameter(value, tensor.requires_grad)
            done[id(tensor)] = (value, tensor)  # which keeps its id
        return done[id(tensor)][0]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({k: convert(v) for k, v in tensors.items() if v is not None})


@contextmanager
def autocast(device: str) -> Iterator[None]:
    """bfloat16 autocast; ``torch.autocast`` switches itself off without a GPU."""
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, False)
        torch.clear_autocast_cache()


class OneDtype(TorchDispatchMode):
    """Refuses products of several dtypes, as a GPU does; fake tensors let them pass."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operator, if it is sound."""
        name = func.overloadpacket.__name__
        if name in ('mm', 'addmm', 'bmm', 'baddbmm', 'convolution'):
            dtypes = {x.dtype for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)}
            if len(dtypes) > 1:
                raise RuntimeError(f'{name} of {", ".join(sorted(map(str, dtypes)))}')
        return func(*args, **(kwargs or {}))


class Stream(TorchDispatchMode):
    """Counts operators that a device would be asked for: ``launches``, and ``copies`` from the host."""

    def __init__(self, device: str = 'cuda') -> None:
        super().__init__()
        self.device, self.counts = device, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Run one operator and count it."""
        made = func(*args, **(kwargs or {}))
        inputs = [x.device.type for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)]
        outputs = [x.device.type for x in tree_leaves(made) if torch.is_tensor(x)]
        name = func.overloadpacket.__name__
        if name in ('_to_copy', 'copy_') and set(inputs + outputs) == {'cpu', 'cuda'}:
            self.counts['copies'] += 1
        elif self.device in inputs + outputs and name not in NO_LAUNCH:
            self.counts['launches'] += 1
        return made


def table(name: str = 'mcl_r50_100e_fast', batch: int = 128) -> str:
    """A row for each ``model.joint``."""
    rows = [
        [
            '`model.joint`',
            'copies',
            'augmentation, montage',
            'forward',
            'backward',
            'update',
            'all',
        ],
        ['---'] * 7,
    ]
    for joint in JOINT:
        torch.manual_seed(0)
        on_gpu = FakeStep(name, batch=batch, settings={'model.joint': joint})
        before, whole, update, backward = Stream(), Stream(), Stream(), Stream('cpu')
        state = torch.get_rng_state()
        with on_gpu.mode, before:
            on_gpu.preprocess()
        torch.set_rng_state(state)  # the same images change
        on_gpu.loss(whole)
        on_gpu.update(update)
        on_cpu = FakeStep(name, 'cpu', batch, {'model.joint': joint})
        loss, _ = on_cpu.loss()
        with on_cpu.mode, backward:
            loss.backward()
        forward = whole.counts['launches'] - before.counts['launches']
        parts = [
            before.counts['launches'],
            forward,
            backward.counts['launches'],
            update.counts['launches'],
        ]
        rows.append([f"`'{joint}'`", whole.counts['copies'], *parts, sum(parts)])
    return '\n'.join('| ' + ' | '.join(map(str, row)) + ' |' for row in rows)


if __name__ == '__main__':
    MMLogger.get_instance('mmengine', log_level='ERROR')
    print(table())
