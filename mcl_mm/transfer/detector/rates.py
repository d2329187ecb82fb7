"""Other learning rates for what starts pre-trained, and lower ones for layers near the image."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional

from mmengine.config import Config
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from mcl_mm.config import type_name

from .child_config import Change
from .fit import REGION_STAGE
from .settings import build, scope_of

# MMDetection's, which knows ConvNeXt's layers and no others.
LAYERS = 'LearningRateDecayOptimizerConstructor'
PLAIN = 'DefaultOptimWrapperConstructor'
# Blocks of a ResNet's third stage, and of ConvNeXt's, that share a rate.
BLOCKS = 3


class Rate(NamedTuple):
    """Factors of a parameter's learning rate and weight decay, of the optimiser's own."""

    lr: float
    decay: float

    @classmethod
    def rounded(cls, lr: float, decay: float) -> 'Rate':
        """To what a person would write."""
        return cls(float(f'{lr:.6g}'), float(f'{decay:.6g}'))


def rate_changes(
    cfg: Config,
    pretrained: Collection[str],
    pretrained_lr: Optional[float] = None,
    lr_decay: Optional[float] = None,
) -> list[Change]:
    """What to change in a detector's config so that its parts learn at different rates.

    Args:
        cfg (Config): The detector's config.
        pretrained (Collection[str]): Names of its parameters that start from the file.
        pretrained_lr (float, optional): Factor of the rate for those, in place of one that the config
            gives them. Defaults to None, none.
        lr_decay (float, optional): Factor of the rate for each layer of the backbone towards the image.
            Defaults to None, none.

    Returns:
        list[Change]: The changes; weight decay stays as it is, but for a ConvNeXt with ``lr_decay`` alone,
        whose layers MMDetection's constructor knows: it gives vectors none.

    Raises:
        ValueError: A factor is no factor, the config has no rate, another constructor sets its rates, or
            the layers of the backbone are not known.
    """
    if pretrained_lr is None and lr_decay is None:
        return []
    optim = checked(cfg, pretrained_lr, lr_decay)
    model = build(cfg.model, scope_of(cfg))
    model.train()
    reason = ' '.join(words(pretrained_lr, lr_decay))
    if pretrained_lr is None and 'ConvNeXt' in type(model.backbone).__name__:
        return list(by_layers(model.backbone, optim, lr_decay, reason))
    if type_name(dict(type=optim.get('constructor') or PLAIN)) != PLAIN:
        raise ValueError(
            f'optim_wrapper.constructor={optim.constructor!r} sets the rates of this detector by itself: '
            'remove it from the config for --pretrained-lr and --lr-decay'
        )
    own = given_rates(model, optim)
    wanted = {
        name: wanted_rate(name, rate, model, name in pretrained, pretrained_lr, lr_decay)
        for name, rate in own.items()
    }
    paramwise = dict(optim.get('paramwise_cfg') or {})
    keys = dict(paramwise.get('custom_keys') or {})
    ours = keys_for(wanted, own, list(keys))
    keys.update({key: settings_of(rate) for key, rate in ours.items()})
    value = dict(paramwise, custom_keys=keys)
    return [Change('optim_wrapper.paramwise_cfg', value, reason)] if ours else []


def checked(cfg: Config, pretrained_lr: Optional[float], lr_decay: Optional[float]) -> dict:
    """The optimiser's part of a config; see :func:`rate_changes` for what is refused."""
    if pretrained_lr is not None and not 0 < pretrained_lr < float('inf'):
        raise ValueError(f'--pretrained-lr must be a factor above 0, got {pretrained_lr:g}')
    if lr_decay is not None and not 0 < lr_decay <= 1:
        raise ValueError(f'--lr-decay must be a factor in (0, 1], got {lr_decay:g}')
    optim = cfg.get('optim_wrapper') or {}
    if not (optim.get('optimizer') or {}).get('lr'):
        raise ValueError(
            'the config has no optim_wrapper.optimizer.lr, of which --pretrained-lr and --lr-decay are '
            'factors'
        )
    return optim


def words(pretrained_lr: Optional[float], lr_decay: Optional[float]) -> Iterator[str]:
    """The options as sentences."""
    if pretrained_lr is not None:
        yield f'--pretrained-lr: what starts pre-trained learns at {pretrained_lr:g} of the rate.'
    if lr_decay is not None:
        yield (
            f'--lr-decay: the rate is multiplied by {lr_decay:g} for each layer of the backbone '
            'towards the image.'
        )


def by_layers(backbone: nn.Module, optim: dict, lr_decay: float, reason: str) -> Iterator[Change]:
    """The lines that let MMDetection's constructor set the rates of a ConvNeXt."""
    layers = BLOCKS + 1 + (backbone.depths[2] - 1) // BLOCKS
    given = type_name(dict(type=optim.get('constructor') or PLAIN))
    if given not in (PLAIN, LAYERS) or (given == PLAIN and optim.get('paramwise_cfg')):
        what = 'constructor' if given != PLAIN else 'paramwise_cfg'
        raise ValueError(
            f'optim_wrapper.{what} sets the rates of this detector already: remove it from the config '
            'for --lr-decay'
        )
    settings = dict(decay_rate=lr_decay, decay_type='layer_wise', num_layers=layers)
    if given == PLAIN:
        yield Change('optim_wrapper.constructor', LAYERS, reason)
    yield Change('optim_wrapper.paramwise_cfg', settings, reason)


def given_rates(model: nn.Module, optim: dict) -> dict[str, Rate]:
    """What MMEngine's constructor makes of a config: the factors of each parameter that learns."""
    constructor = DefaultOptimWrapperConstructor(optim, optim.get('paramwise_cfg'))
    groups = []
    with quiet():
        constructor.add_params(groups, model)
    lr, decay = constructor.base_lr, constructor.base_wd
    found = {
        id(group['params'][0]): Rate.rounded(
            group.get('lr', lr) / lr, group.get('weight_decay', decay) / decay if decay else 1.0
        )
        for group in groups
    }
    return {n: found[id(p)] for n, p in model.named_parameters() if id(p) in found}


@contextmanager
def quiet() -> Iterator[None]:
    """Without the line that MMEngine logs for each parameter."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def wanted_rate(
    name: str,
    rate: Rate,
    model: nn.Module,
    pretrained: bool,
    pretrained_lr: Optional[float],
    lr_decay: Optional[float],
) -> Rate:
    """The factors that a parameter is to have."""
    lr = pretrained_lr if pretrained and pretrained_lr is not None else rate.lr
    if lr_decay is not None:
        lr *= lr_decay ** layers_above(name, model.backbone)
    return Rate.rounded(lr, rate.decay)


def layers_above(name: str, backbone: nn.Module) -> int:
    """How many layers of the backbone, itself included, a parameter is away from neck and heads.

    A ResNet is counted as SparK does: its stem, its stages, and three blocks of the third stage each are a
    layer. MMPretrain's other backbones count their own (``get_layer_depth``).

    Raises:
        ValueError: Nobody knows the layers of this backbone.
    """
    name = name.replace(REGION_STAGE, 'backbone.', 1)  # the last stage of a C4 detector
    if not name.startswith('backbone.'):
        return 0
    if has_stages_of_a_resnet(backbone):
        third = -(-len(getattr(backbone, 'layer3', ())) // BLOCKS)
        found = re.match(r'backbone\.layer(\d)\.(\d+)\.', name)
        if not found:
            return third + 4
        stage, block = map(int, found.groups())
        below = {1: third + 3, 2: third + 2, 3: third + 1 - block // BLOCKS, 4: 1}
        return below[stage]
    if hasattr(backbone, 'get_layer_depth'):
        layer, count = backbone.get_layer_depth(name, 'backbone.')
        return count - 1 - layer
    raise ValueError(
        f'--lr-decay does not know the layers of {type(backbone).__name__}; it knows those of ResNets '
        "and of MMPretrain's ConvNeXt, Swin and ViT. Use --pretrained-lr instead"
    )


def has_stages_of_a_resnet(backbone: nn.Module) -> bool:
    """Whether a backbone's layers are a ResNet's, of which a C4 detector has three and its head the fourth.

    A HRNet has the first alone, a MobileNetV2 more than four.
    """
    has = [hasattr(backbone, f'layer{stage}') for stage in range(1, 6)]
    return all(has[:3]) and not has[4]


def keys_for(
    wanted: dict[str, Rate], own: dict[str, Rate], theirs: Collection[str]
) -> dict[str, Rate]:
    """The keys by which MMEngine's constructor comes to the wanted rates, as few as are natural.

    Of the keys that are in a parameter's name the longest counts.

    Args:
        wanted (dict[str, Rate]): By the names of parameters.
        own (dict[str, Rate]): What they have by the config alone.
        theirs (Collection[str]): Keys of the config.

    Returns:
        dict[str, Rate]: By parts of names: modules with a dot at their end, or single parameters.
    """
    ours = {}
    settle('', wanted, own, theirs, ours)
    # A key may be in names elsewhere too; a whole name is longer.
    ours.update({n: r for n, r in wanted.items() if rate_by(n, own, theirs, ours) != r})
    return ours


def settle(
    prefix: str,
    wanted: dict[str, Rate],
    own: dict[str, Rate],
    theirs: Collection[str],
    ours: dict[str, Rate],
) -> None:
    """Add keys to ``ours`` for what is below a prefix, which has a dot at its end; the widest first."""
    below = [name for name in wanted if f'{name}.'.startswith(prefix)]
    wrong = [name for name in below if rate_by(name, own, theirs, ours) != wanted[name]]
    if not wrong:
        return
    if prefix[:-1] in wanted:  # a parameter
        ours[prefix[:-1]] = wanted[prefix[:-1]]
        return
    children = {}
    for name in below:
        children.setdefault(name[len(prefix) :].split('.')[0], []).append(name)
    rate, _ = Counter(wanted[name] for name in wrong).most_common(1)[0]
    lead = [names for names in children.values() if mostly(rate, names, wanted)]
    if prefix and 2 * len(lead) >= len(children):
        ours[prefix] = rate
    for child in children:
        settle(f'{prefix}{child}.', wanted, own, theirs, ours)


def mostly(rate: Rate, names: Collection[str], wanted: dict[str, Rate]) -> bool:
    """Whether at least half of some parameters want a rate."""
    return 2 * sum(wanted[name] == rate for name in names) >= len(names)


def rate_by(
    name: str, own: dict[str, Rate], theirs: Collection[str], ours: dict[str, Rate]
) -> Rate:
    """What the constructor gives a parameter by the config's keys and ours."""
    keys = [key for key in {*theirs, *ours} if key in name]
    longest = min(keys, key=lambda key: (-len(key), key), default=None)
    return ours.get(longest, own[name])


def settings_of(rate: Rate) -> dict[str, float]:
    """A rate as ``custom_keys`` has it."""
    settings = dict(lr_mult=rate.lr)
    if rate.decay != 1:
        settings['decay_mult'] = rate.decay
    return settings
