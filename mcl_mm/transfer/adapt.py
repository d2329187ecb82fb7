"""A user's detector and the weights of ``mcl_mm``, made to fit: what to change in configs, and why.

:func:`finetune_changes` makes a detector use as much of the weights as fits; :func:`pretrain_changes`
makes the pre-training recipe train the backbone and pyramid of this very detector. Each is a list of
small rules.
"""

import inspect
import os
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Optional

from mmdet.models.necks import FPN
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from mcl_mm.models.montage_model import NoPyramidError, stage_channels

from .check import LoadReport, check_load
from .child_config import Change, Code, as_code
from .fit import BOX_CONVS, PARTS, carry

BATCH_NORMS = ('BN', 'BN2d', 'SyncBN', 'MMSyncBN')
SYNC_BN = dict(type='SyncBN', requires_grad=True)
# Classes whose shared convs are those of the projector.
BOX_HEADS = ('Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead', 'ConvFCBBoxHead')
LATERALS = 'neck.lateral_convs.'
# Arguments by which a backbone starts from a file of its own.
SOURCES = ('init_cfg', 'pretrained')
HOOK = dict(type='mcl_mm.TransferHook')
# Detectors' own packages, which need no custom_imports in a pre-training config.
KNOWN_PACKAGES = ('mmdet', 'mmpretrain')


def load_detector(base: str) -> Config:
    """Open the config of a detector. It is Python code, and runs.

    Args:
        base (str): What a config has as ``_base_``: an absolute path, or a name such as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``.

    Returns:
        Config: The config.

    Raises:
        OSError: There is no such file.
        ValueError: It cannot be opened, or is not the config of a detector.
    """
    if '::' not in base and not os.path.isfile(base):
        raise FileNotFoundError(f'no config at {base}')
    try:
        cfg = Config.fromstring(f'_base_ = {base!r}\n', '.py')
    except OSError:
        raise
    except Exception as error:  # whatever the code in it raises
        raise ValueError(
            f'{base} cannot be opened as a config: {error}. One that is written with read_base() has '
            "to be written out first: Config.fromfile(PATH).dump('plain.py')"
        ) from error
    model = cfg.get('model') or {}
    if 'backbone' not in model:
        raise ValueError(f'{base} describes no detector: it has no model.backbone')
    if model.type.split('.')[-1] == 'MCL':
        raise ValueError(f'{base} is a config of pre-training, not of a detector')
    return cfg


def finetune_changes(
    cfg: Config,
    load_from: str,
    names: Optional[Collection[str]] = None,
    meta: Optional[dict] = None,
) -> list[Change]:
    """What to change in a detector's config so that it uses as much of the weights as fits.

    Args:
        cfg (Config): The detector's config.
        load_from (str): The file of weights.
        names (Collection[str], optional): The names in it. Defaults to None: all that an export has.
        meta (dict, optional): What it says of ``input`` and ``backbone`` (``docs/formats.md``).
            Defaults to None: they are those of the recipes.

    Returns:
        list[Change]: The changes. Data, classes, pipelines, batch size and schedule stay as they are.

    Raises:
        ValueError: A part of the model is not registered.
    """
    return [
        *backbone_learns(cfg, meta or {}),
        *pyramid_is_as_trained(cfg, names),
        *box_heads_have_convs(cfg, names),
        *input_is_as_trained(cfg, meta or {}),
        *weights_arrive(cfg, load_from),
    ]


def pretrain_changes(cfg: Config, recipe: Config) -> list[Change]:
    """What to change in a recipe so that it trains the backbone and pyramid of a detector.

    Args:
        cfg (Config): The detector's config, with :func:`finetune_changes` made.
        recipe (Config): The pre-training recipe.

    Returns:
        list[Change]: The changes.

    Raises:
        NoPyramidError: The backbone has no four maps of stride 4, 8, 16 and 32.
        ValueError: The backbone cannot be built.
    """
    settings, backbone = probe(cfg)
    return [
        *backbone_is_the_detectors(cfg, settings, backbone),
        *neck_is_the_detectors(cfg, recipe),
        *optimiser_suits(cfg, backbone, recipe),
    ]


# The rules of fine-tuning.


def backbone_learns(cfg: Config, meta: dict) -> Iterator[Change]:
    """All of the backbone learns, its norms too, and nothing else is fetched for it."""
    backbone, scope = cfg.model.backbone, scope_of(cfg)
    norm = argument(backbone, 'norm_cfg', scope)
    if is_batch_norm(norm):
        if not is_norm(norm, synchronised(norm)):
            yield Change(
                'model.backbone.norm_cfg',
                synchronised(norm),
                'batch norm goes on learning, as in pre-training. SyncBN takes statistics from the '
                'images of all GPUs, because those of one are too few; on one process MMEngine makes '
                'plain BN of it.',
            )
        if argument(backbone, 'norm_eval', scope):
            yield Change(
                'model.backbone.norm_eval',
                False,
                'the running statistics in the weights are those of pre-training sheets, full of small '
                'tiles. They have to follow your images.',
            )
    thawed = default_of(backbone, 'frozen_stages', scope)
    if backbone.get('frozen_stages', thawed) != thawed:
        yield Change(
            'model.backbone.frozen_stages',
            thawed,
            'frozen stages would keep filters and statistics of the pre-training sheets.',
        )
    style = (meta.get('backbone') or {}).get('style', 'pytorch')
    if argument(backbone, 'style', scope) not in (None, style):
        yield Change(
            'model.backbone.style',
            style,
            'the network in pre-training strides in another conv of a block.',
        )
    for name in SOURCES:
        if backbone.get(name):
            yield Change(
                f'model.backbone.{name}',
                False if backbone[name] is True else None,  # timm's wrapper has a flag
                'load_from fills the whole backbone. Nothing else has to be fetched for it.',
            )


def pyramid_is_as_trained(cfg: Config, names: Optional[Collection[str]]) -> Iterator[Change]:
    """The FPN computes what the FPN in pre-training does."""
    path, neck = pyramid_of(cfg)
    if neck is None or not offered(names, LATERALS):
        return
    norm = norm_in_weights(cfg, names, LATERALS)
    if norm and not is_norm(argument(neck, 'norm_cfg', scope_of(cfg)), norm):
        yield Change(
            f'{path}.norm_cfg',
            norm,
            'in the weights a norm follows every conv of the pyramid. Without it the same convs give '
            'maps of another scale.',
        )
    for name, value in (('conv_cfg', None), ('act_cfg', None), ('no_norm_on_lateral', False)):
        if argument(neck, name, scope_of(cfg)):
            yield Change(
                f'{path}.{name}', value, 'the pyramid in pre-training does not have this setting.'
            )


def box_heads_have_convs(cfg: Config, names: Optional[Collection[str]]) -> Iterator[Change]:
    """Each box head has four shared convs: the place of the projector's."""
    _, neck = pyramid_of(cfg)
    if neck is None or not offered(names, BOX_CONVS):
        return
    scope, norm = scope_of(cfg), norm_in_weights(cfg, names, BOX_CONVS)
    for path, head in box_heads_of(cfg):
        kind = head.type.split('.')[-1]
        if kind == 'Shared2FCBBoxHead':
            yield Change(
                f'{path}.type',
                'Shared4Conv1FCBBoxHead',
                "the four convs of the projector in pre-training become this head's shared convs, for "
                'which two fully connected layers have no place.',
            )
        elif kind == 'ConvFCBBoxHead' and head.get('num_shared_convs', 0) != 4:
            yield Change(
                f'{path}.num_shared_convs',
                4,
                "the four convs of the projector in pre-training become this head's shared convs.",
            )
        if norm and not is_norm(argument(head, 'norm_cfg', scope), norm):
            yield Change(
                f'{path}.norm_cfg', norm, 'in the weights a norm follows each of these convs.'
            )
        if argument(head, 'conv_cfg', scope):
            yield Change(f'{path}.conv_cfg', None, 'the convs of the projector are plain ones.')
        if argument(head, 'conv_out_channels', scope) != neck.out_channels:
            yield Change(
                f'{path}.conv_out_channels',
                neck.out_channels,
                'the convs of the projector are as wide as the pyramid.',
            )


def input_is_as_trained(cfg: Config, meta: dict) -> Iterator[Change]:
    """Images come in as they did in pre-training."""
    current = cfg.model.get('data_preprocessor') or {}
    trained = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)
    reason = "the weights are used to RGB, normalised by ImageNet's mean and standard deviation."
    told = meta.get('input')
    if isinstance(told, dict):
        order = told['channel_order']
        trained = dict(mean=told['mean'], std=told['std'], bgr_to_rgb=order == 'RGB')
        reason = f'the weights are used to {order}, mean {told["mean"]}, deviation {told["std"]}.'
    for name, value in trained.items():
        if current.get(name, False if name == 'bgr_to_rgb' else None) != value:
            yield Change(f'model.data_preprocessor.{name}', value, reason)


def weights_arrive(cfg: Config, load_from: str) -> Iterator[Change]:
    """The weights are loaded, into the right levels, with a report."""
    before = f', instead of {cfg.load_from}' if cfg.get('load_from') else ''
    yield Change('load_from', load_from, f'the weights: a file of tools/export.py{before}.')
    hooks = cfg.get('custom_hooks') or []
    if HOOK['type'] not in [hook.get('type') for hook in hooks]:
        parts = parts_of(cfg)
        hook = HOOK if parts == PARTS else dict(HOOK, parts=parts)
        task = (
            'brings each level of the pyramid and each stage of the head its weights'
            if parts == PARTS
            else 'fills the backbone alone, though layers behind it may have the names of an FPN'
        )
        reason = (
            f'TransferHook {task}. It prints what is used, and stops a run that would use less than '
            'it should.'
        )
        kept = '*_base_.custom_hooks, ' if hooks else ''
        yield Change('custom_hooks', Code(f'[{kept}{as_code(hook)}]'), reason)
    imports = imports_of(cfg)
    if 'mcl_mm' not in imports:
        yield Change('custom_imports.imports', [*imports, 'mcl_mm'], 'for TransferHook.')


# The rules of pre-training.


def backbone_is_the_detectors(cfg: Config, settings: dict, backbone: nn.Module) -> Iterator[Change]:
    """The recipe trains the detector's own backbone, from random weights."""
    reason = "the detector's own backbone, so that all of its weights fit"
    if settings.get('out_indices') != cfg.model.backbone.get('out_indices'):
        reason += ', with maps of all four stages for the pyramid'
    if argument(settings, 'drop_path_rate', scope_of(cfg)):
        settings['drop_path_rate'] = 0.0
        reason += ', without stochastic depth, as MoCo v3 trains transformers'
    if has_batch_norm(backbone):
        settings['init_cfg'] = Code('_base_.model.backbone.init_cfg')
        reason += ", initialised as the recipe's"
    yield Change('model.backbone', settings, f'{reason}.')
    imports = [module for module in imports_of(cfg) if module != 'mcl_mm']
    if imports and type(backbone).__module__.split('.')[0] not in KNOWN_PACKAGES:
        yield Change('custom_imports.imports', imports, f'for {type(backbone).__name__}.')


def neck_is_the_detectors(cfg: Config, recipe: Config) -> Iterator[Change]:
    """The recipe's pyramid has the width and the norm of the detector's."""
    _, pyramid = pyramid_of(cfg)
    if pyramid is None:
        return
    if pyramid.out_channels != recipe.model.neck.out_channels:
        yield Change(
            'model.neck.out_channels', pyramid.out_channels, "the width of the detector's pyramid."
        )
    norm = dict(argument(pyramid, 'norm_cfg', scope_of(cfg)))
    if is_batch_norm(norm):
        norm['type'] = 'BN'
    if not set(norm.items()) <= set(dict(SYNC_BN, type='BN').items()):
        yield Change('model.neck.norm_cfg', norm, "the norm of the detector's pyramid.")


def optimiser_suits(cfg: Config, backbone: nn.Module, recipe: Config) -> Iterator[Change]:
    """LARS for convs with batch norm, whose norms it has to leave alone by name; AdamW otherwise."""
    spared = tuple(recipe.optim_wrapper.paramwise_cfg.custom_keys)
    _, pyramid = pyramid_of(cfg)
    norm = argument(pyramid, 'norm_cfg', scope_of(cfg)) if pyramid else SYNC_BN
    if (
        has_batch_norm(backbone)
        and is_batch_norm(norm)
        and all(
            p.dim() > 1 or any(k in name for k in spared) for name, p in backbone.named_parameters()
        )
    ):
        return
    yield Change(
        'optim_wrapper.optimizer',
        dict(type='AdamW', lr=2.4e-3, weight_decay=0.1),
        "LARS is tuned to convs with batch norm and finds its exceptions by a ResNet's names. Rate and "
        'decay are those that MoCo v3 (arXiv 2104.02057) has for transformers, 1.5e-4 for 256 images; '
        'not tried at scale here.',
    )
    names = [name for name, _ in backbone.named_parameters()]
    positions = {
        key: dict(decay_mult=0.0)
        for key in ('relative_position_bias_table', 'pos_embed')
        if any(key in name for name in names)
    }
    yield Change(
        'optim_wrapper.paramwise_cfg',
        dict(flat_decay_mult=0.0, **(dict(custom_keys=positions) if positions else {})),
        'no weight decay for norms, biases, scales and embeddings of positions.',
    )
    for number, part in enumerate(recipe.param_scheduler):
        if part.get('eta_min'):
            yield Change(
                f'param_scheduler.{number}.eta_min',
                0.0,
                f"the recipe ends at LARS's rate of {part.eta_min}, which is much for AdamW.",
            )


# What the rules ask of a config.


def scope_of(cfg: Config) -> str:
    """The registry scope in which a detector's types are looked up."""
    return cfg.get('default_scope') or 'mmdet'


def build(config: dict, scope: str) -> nn.Module:
    """Build a model or a part of one.

    Raises:
        ValueError: It cannot be built; says what and why.
    """
    try:
        with DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(ConfigDict(config))
    except Exception as error:  # assertions, KeyErrors, ... of foreign code
        raise ValueError(f'{config["type"]} cannot be built: {error}') from error


def class_of(config: dict, scope: str) -> type:
    """The class of a part of a model.

    Raises:
        ValueError: It is not registered.
    """
    with MODELS.switch_scope_and_registry(scope) as registry:
        found = registry.get(config['type'])
    if found is None:
        raise ValueError(
            f'no {config["type"]} is registered: list its module under custom_imports in the config'
        )
    return found


def default_of(config: dict, name: str, scope: str) -> Any:
    """An argument's default, or None where there is no such argument."""
    for cls in class_of(config, scope).__mro__:
        parameter = inspect.signature(cls.__init__).parameters.get(name)
        if parameter is not None:
            return None if parameter.default is inspect.Parameter.empty else parameter.default
    return None


def argument(config: dict, name: str, scope: str) -> Any:
    """What a part of a model gets for an argument, whether its config says so or not."""
    return config[name] if name in config else default_of(config, name, scope)


def pyramid_of(cfg: Config) -> tuple[str, Optional[ConfigDict]]:
    """Path and config of a detector's FPN, its neck or the first of its necks.

    Returns:
        tuple[str, ConfigDict | None]: None for the config if there is no FPN.
    """
    path, neck = 'model.neck', cfg.model.get('neck')
    if isinstance(neck, (list, tuple)):
        path, neck = 'model.neck.0', neck[0]
    is_fpn = neck is not None and issubclass(class_of(neck, scope_of(cfg)), FPN)
    return path, neck if is_fpn else None


def box_heads_of(cfg: Config) -> list[tuple[str, ConfigDict]]:
    """Path and config of each box head that can have shared convs, one a stage of a cascade."""
    path, heads = 'model.roi_head.bbox_head', (cfg.model.get('roi_head') or {}).get('bbox_head')
    if isinstance(heads, (list, tuple)):
        heads = [(f'{path}.{number}', head) for number, head in enumerate(heads)]
    else:
        heads = [(path, heads)] if heads else []
    return [(where, head) for where, head in heads if head.type.split('.')[-1] in BOX_HEADS]


def parts_of(cfg: Config) -> Sequence[str]:
    """What a detector is given of the weights: without an FPN, the backbone alone."""
    return PARTS if pyramid_of(cfg)[1] else ('backbone',)


def imports_of(cfg: Config) -> list[str]:
    """The modules a config lists under ``custom_imports``."""
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    return [imports] if isinstance(imports, str) else list(imports)


def is_batch_norm(norm: Optional[dict]) -> bool:
    """Whether a norm is a batch norm."""
    return bool(norm) and norm['type'] in BATCH_NORMS


def is_norm(norm: Optional[dict], wanted: dict) -> bool:
    """Whether a norm has all the settings of another."""
    return bool(norm) and wanted.items() <= dict(dict(requires_grad=True), **norm).items()


def synchronised(norm: dict) -> dict:
    """Batch norm made synchronous and trainable, its other settings kept; other norms as they are."""
    return dict(norm, **SYNC_BN) if is_batch_norm(norm) else dict(norm)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether there is batch norm in a module."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


def offered(names: Optional[Collection[str]], part: str) -> bool:
    """Whether weights hold a part. None stands for an export, which holds all."""
    return names is None or any(name.startswith(part) for name in names)


def norm_in_weights(cfg: Config, names: Optional[Collection[str]], part: str) -> Optional[dict]:
    """The norm behind the convs of pyramid or box head, as far as names tell.

    Returns:
        dict | None: Where they do not tell, that of the detector's pyramid, or batch norm if it has
        none. None if the convs have no norm.
    """
    if names is not None and f'{part}0.bn.weight' in names:
        return SYNC_BN
    if names is not None and f'{part}0.conv.bias' in names:
        return None
    _, pyramid = pyramid_of(cfg)
    own = argument(pyramid, 'norm_cfg', scope_of(cfg))
    return synchronised(own) if own else SYNC_BN


def probe(cfg: Config) -> tuple[dict, nn.Module]:
    """Build a detector's backbone such that it gives maps of four stages.

    Returns:
        tuple[dict, nn.Module]: Its config for pre-training, with plain trainable batch norm and without
        initialisation; the backbone.

    Raises:
        NoPyramidError: There are no four maps of stride 4, 8, 16 and 32.
        ValueError: It cannot be built.
    """
    scope = scope_of(cfg)
    settings = dict(cfg.model.backbone)
    settings['type'] = (
        settings['type'] if '.' in settings['type'] else f'{scope}.{settings["type"]}'
    )
    for name in (*SOURCES, 'frozen_stages'):  # the default freezes nothing
        settings.pop(name, None)
    if is_batch_norm(settings.get('norm_cfg')):
        settings['norm_cfg'] = dict(settings['norm_cfg'], type='BN')
    backbone = build(settings, scope)
    try:
        stage_channels(backbone)
        return settings, backbone
    except NoPyramidError as error:
        failure = error
    # The stem and stages of some backbones are counted together.
    for first in range(3) if default_of(settings, 'out_indices', scope) is not None else ():
        candidate = dict(settings, out_indices=(first, first + 1, first + 2, first + 3))
        try:
            backbone = build(candidate, scope)
            stage_channels(backbone)
        except ValueError:  # it has no such stages
            continue
        return candidate, backbone
    raise failure


# What it comes to.


def carried(cfg: Config, names: Optional[Collection[str]] = None) -> str:
    """In words, what of the weights a detector takes.

    Args:
        cfg (Config): The detector's config, with :func:`finetune_changes` made.
        names (Collection[str], optional): The names in the weights. Defaults to None: an export's.
    """
    _, pyramid = pyramid_of(cfg)
    if pyramid is None:
        neck = cfg.model.get('neck')
        kind = neck.type if isinstance(neck, dict) else 'its neck'
        return (
            'The weights fill the backbone alone. '
            + (f'There is no FPN ({kind}), ' if neck else 'There is no neck, ')
            + 'and all behind the backbone starts at random.'
        )
    if not offered(names, LATERALS):
        return 'The weights hold a backbone and no pyramid: FPN and heads start at random.'
    text = 'The weights fill the backbone and the laterals and outputs of the FPN.'
    lowest = 4 - (len(pyramid.in_channels) - pyramid.get('start_level', 0))
    if lowest > 0:
        below = ' and '.join(f'P{level}' for level in range(2, 2 + lowest))
        text += f' This FPN begins at P{2 + lowest}, without a place for {below} of the weights.'
    if pyramid.get('add_extra_convs') and pyramid.num_outs > 4 - lowest:
        text += ' Its levels above P5 start at random.'
    heads = box_heads_of(cfg)
    if heads and offered(names, BOX_CONVS):
        stages = f' of each of {len(heads)} stages' if len(heads) > 1 else ''
        text += f' The four convs of the projector fill the shared convs of the box head{stages}.'
    elif 'roi_head' in cfg.model:
        text += ' The box head has no place for convs of the projector and starts at random.'
    else:
        text += (
            ' The head starts at random: it runs over whole maps, and the convs of the projector over '
            'single objects.'
        )
    return text


def check_fit(cfg: Config, state_dict: dict[str, Tensor]) -> LoadReport:
    """Build a detector and compare weights with it as a run will.

    Args:
        cfg (Config): The detector's config, with :func:`finetune_changes` made.
        state_dict (dict[str, Tensor]): The weights.

    Raises:
        ValueError: They belong to another backbone or pyramid; it says where they differ.
    """
    model = build(cfg.model, scope_of(cfg))
    return check_load(model, carry(state_dict, model, parts_of(cfg)))
