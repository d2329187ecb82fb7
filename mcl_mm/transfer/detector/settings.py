"""What the config of a detector says, with the defaults of the classes it names."""

import copy
import inspect
import os
import re
import traceback
from collections.abc import Collection, Iterator
from typing import Any, Optional

from mmdet.models import BaseDetector, BaseMOTModel
from mmdet.models.necks import FPN
from mmengine.config import Config, ConfigDict
from mmengine.registry import HOOKS, MODELS, DefaultScope
from torch import nn

from mcl_mm.config import find_config, find_in_package, type_name
from mcl_mm.reading import check_model, opening

from .fit import PARTS

BATCH_NORMS = ('BN', 'SyncBN', 'MMSyncBN')
# Other names of norms; configs of MMEngine's newer style, and what they are written out as, have the classes.
NORMS = dict(BN2d='BN', BatchNorm2d='BN', SyncBatchNorm='SyncBN', GroupNorm='GN')
SYNC_BN = dict(type='SyncBN', requires_grad=True)
# What has a backbone and finds objects, in images or in videos.
DETECTORS = (BaseDetector, BaseMOTModel)
# Classes whose shared convs are those of the projector.
BOX_HEADS = ('Shared2FCBBoxHead', 'Shared4Conv1FCBBoxHead', 'ConvFCBBoxHead')
LATERALS = 'neck.lateral_convs.'
NOT_REGISTERED = 'no {} is registered: list its module under custom_imports in the config'


def base_of(config: str) -> str:
    """What a config that inherits from another has as ``_base_``.

    Args:
        config (str): The other: a path, the name of a recipe, or a name such as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``.

    Returns:
        str: The absolute path; a name stays one where MMEngine can read it, as it cannot
        ``'mmdet::gn+ws/...'``.

    Raises:
        OSError, ValueError: There is no config of this name.
    """
    if '::' not in config or os.path.isfile(config):
        return os.path.abspath(find_config(config))
    found = find_in_package(config)
    return config if re.match(r'\w+::\w+/', config) else found


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
        with opening(base):
            cfg = Config.fromstring(f'_base_ = {base!r}\n', '.py')
    except ValueError as error:
        if 'lazy_import' not in str(error):
            raise
        raise ValueError(why_no_base(base)) from error
    check_model(cfg, base)
    model = cfg.model
    if 'backbone' not in model:
        inner = next((k for k, v in model.items() if isinstance(v, dict) and 'backbone' in v), None)
        hint = f'; model.{inner} has one: give the config of that detector' if inner else ''
        raise ValueError(f'{base} describes no detector: it has no model.backbone{hint}')
    if type_name(model) in ('DistilledMCL', 'MCL', 'SupervisedMCL'):
        raise ValueError(f'{base} is a config of pre-training, not of a detector')
    kind = class_of(model, scope_of(cfg))
    if not issubclass(kind, DETECTORS):
        raise ValueError(f'{base} describes no detector: {kind.__name__} is none')
    return cfg


def why_no_base(config: str) -> str:
    """Why no config inherits from one of MMEngine's newer style, and what to do, for messages."""
    return (
        f'{config} is written with read_base() or imports, and no other config can inherit from it. Write it '
        f"out first, in Python: Config.fromfile({config!r}).dump('plain.py'). For a long name in it that is "
        "not found, as 'mmdet.models.losses.smooth_l1_loss.L1Loss', write package and class, 'mmdet.L1Loss'; "
        "for that of a roi_layer the class alone, 'RoIAlign'"
    )


def build(config: dict, scope: str) -> nn.Module:
    """Build a model or a part of one, in one process.

    MMCV's synchronised batch norm, which cannot be built outside of several processes, becomes
    PyTorch's: the same layers with the same names.

    Args:
        config (dict): Its config.
        scope (str): The registry scope in which types are looked up.

    Raises:
        ValueError: It is not registered, or cannot be built; says what and why.
    """
    config = copy.deepcopy(dict(config))
    for _, part in dicts_in(config):
        if type_name(part) == 'MMSyncBN':
            part['type'] = 'SyncBN'
        # timm, and detectors that learn from another, would fetch weights that nobody looks at here.
        if part.get('pretrained') is True:
            part['pretrained'] = False
        if part.get('teacher_ckpt'):
            part['teacher_ckpt'] = None
    try:
        with DefaultScope.overwrite_default_scope(scope):
            return MODELS.build(ConfigDict(config))
    except Exception as error:  # assertions, KeyErrors, ... of foreign code
        for part in (config, config.get('backbone'), config.get('neck')):
            if isinstance(part, dict) and part.get('type'):
                class_of(part, scope)  # if that is why, it says so better
        what = error.args[0] if isinstance(error, KeyError) and error.args else error
        what = ' '.join(str(what).split()) or bare(error)
        if unknown := re.match(r'(\S+) is not in the .+? registry', what):
            what = NOT_REGISTERED.format(unknown[1])
        raise ValueError(f'{type_name(config)} cannot be built: {what}') from error


def bare(error: Exception) -> str:
    """An error without words: its kind, and the line of code it comes from."""
    line = traceback.extract_tb(error.__traceback__)[-1].line
    return f'{type(error).__name__} at {line!r}'


def dicts_in(config: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """Every dict inside a config with its path, outermost first."""
    if isinstance(config, dict):
        yield path, config
        items = config.items()
    else:
        items = enumerate(config) if isinstance(config, (list, tuple)) else ()
    for key, value in items:
        yield from dicts_in(value, f'{path}.{key}'.lstrip('.'))


def scope_of(cfg: Config) -> str:
    """The registry scope in which a detector's types are looked up."""
    return cfg.get('default_scope') or 'mmdet'


def class_of(config: dict, scope: str) -> type:
    """The class of a part of a model.

    Raises:
        ValueError: It is not registered.
    """
    kind = config['type']
    if isinstance(kind, type):
        return kind
    with MODELS.switch_scope_and_registry(scope) as registry:
        found = registry.get(kind)
    if found is None:
        raise ValueError(NOT_REGISTERED.format(kind))
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


def image_channels(backbone: dict, scope: str) -> int:
    """Channels of the images that a backbone takes, as its config says."""
    channels = argument(backbone, 'in_channels', scope)
    return channels if isinstance(channels, int) else 3


def pyramid_of(cfg: Config) -> tuple[str, Optional[ConfigDict]]:
    """Path and config of a detector's FPN, its neck or the first of its necks.

    Returns:
        tuple[str, ConfigDict | None]: None for the config if there is no FPN.
    """
    path, neck = 'model.neck', (cfg.get('model') or {}).get('neck')
    if isinstance(neck, (list, tuple)):
        path, neck = 'model.neck.0', neck[0]
    is_fpn = neck is not None and issubclass(class_of(neck, scope_of(cfg)), FPN)
    return path, neck if is_fpn else None


def box_heads_of(cfg: Config) -> list[tuple[str, ConfigDict]]:
    """Path and config of each box head that can have shared convs, one a stage of a cascade."""
    path = 'model.roi_head.bbox_head'
    heads = ((cfg.get('model') or {}).get('roi_head') or {}).get('bbox_head')
    if isinstance(heads, (list, tuple)):
        heads = [(f'{path}.{number}', head) for number, head in enumerate(heads)]
    else:
        heads = [(path, heads)] if heads else []
    return [(where, head) for where, head in heads if type_name(head) in BOX_HEADS]


def carried_parts(cfg: Config) -> Optional[tuple[str, ...]]:
    """What the config's TransferHook carries; None if it has no such hook."""
    for hook in cfg.get('custom_hooks') or []:
        if type_name(hook) == 'TransferHook':
            hook = {key: value for key, value in hook.items() if key != 'priority'}
            return HOOKS.build(dict(hook, type='mcl_mm.TransferHook')).parts
    return None


def parts_of(cfg: Config) -> tuple[str, ...]:
    """What a detector is given of the weights: what its hook carries, without an FPN the backbone."""
    fit = PARTS if pyramid_of(cfg)[1] else PARTS[:1]
    carried = carried_parts(cfg) or PARTS
    return tuple(part for part in fit if part in carried)


def has_region_stage(cfg: Config) -> bool:
    """Whether a detector without a pyramid has its backbone's last stage in the head of regions (C4)."""
    return bool(((cfg.get('model') or {}).get('roi_head') or {}).get('shared_head'))


def imports_of(cfg: Config) -> list[str]:
    """The modules a config lists under ``custom_imports``."""
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    return [imports] if isinstance(imports, str) else list(imports)


def names_batch_norm(norm: Optional[dict]) -> bool:
    """Whether a norm is a batch norm."""
    return bool(norm) and norm_name(norm) in BATCH_NORMS


def norm_name(norm: dict) -> str:
    """The kind of a norm by one name, such as ``'SyncBN'`` for ``dict(type='torch.nn.SyncBatchNorm')``."""
    name = type_name(norm)
    return NORMS.get(name, name)


def is_norm(norm: Optional[dict], wanted: dict) -> bool:
    """Whether a norm has all the settings of another."""
    if not norm or norm_name(norm) != norm_name(wanted):
        return False
    own = dict(dict(requires_grad=True), **norm)
    return all(own.get(key) == value for key, value in wanted.items() if key != 'type')


def synchronised(norm: dict) -> dict:
    """Batch norm made synchronous and trainable, its other settings kept; other norms as they are."""
    return dict(norm, **SYNC_BN) if names_batch_norm(norm) else dict(norm)


def norm_in_weights(cfg: Config, names: Optional[Collection[str]], part: str) -> Optional[dict]:
    """The norm behind the convs of pyramid or box head, as far as names tell.

    Returns:
        dict | None: Where they do not tell, that of the detector's pyramid, or batch norm if it has
        none. None if the convs have no norm.
    """
    if names is not None:
        if any(name.startswith(part) and name.endswith('.bn.weight') for name in names):
            return SYNC_BN
        if any(name.startswith(part) and name.endswith('.gn.weight') for name in names):
            return dict(type='GN', num_groups=32, requires_grad=True)
        if any(name.startswith(part) and name.endswith('.conv.bias') for name in names):
            return None
    _, pyramid = pyramid_of(cfg)
    own = argument(pyramid, 'norm_cfg', scope_of(cfg)) if pyramid else None
    return synchronised(own) if own else SYNC_BN
