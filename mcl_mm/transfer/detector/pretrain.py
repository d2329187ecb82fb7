"""What to change in a recipe so that it trains the backbone and pyramid of a detector."""

from collections.abc import Iterator

from mmengine.config import Config
from torch import nn

from mcl_mm.config import find_parts, type_name
from mcl_mm.models.modules import is_batch_norm
from mcl_mm.models.montage_model import NoPyramidError, stage_channels

from .child_config import Change, Code
from .settings import (
    SYNC_BN,
    argument,
    build,
    default_of,
    has_region_stage,
    image_channels,
    imports_of,
    names_batch_norm,
    pyramid_of,
    scope_of,
)
from .sources import SOURCES

# Detectors' own packages, which need no custom_imports in a pre-training config.
KNOWN_PACKAGES = ('mmdet', 'mmpretrain')
# Of a detector whose backbone ends at the third stage.
WHOLE_RESNET = dict(
    num_stages=4, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1), out_indices=(0, 1, 2, 3)
)


def pretrain_changes(cfg: Config, recipe: Config) -> list[Change]:
    """What to change in a recipe so that it trains the backbone and pyramid of a detector.

    Args:
        cfg (Config): The detector's config, with the changes of fine-tuning made.
        recipe (Config): The pre-training recipe.

    Returns:
        list[Change]: The changes.

    Raises:
        NoPyramidError: The backbone has no four maps of stride 4, 8, 16 and 32.
        ValueError: The backbone cannot be built.
    """
    settings, backbone = probe(cfg)
    return [
        *images_are_the_detectors(cfg, settings),
        *backbone_is_the_detectors(cfg, recipe, settings, backbone),
        *neck_is_the_detectors(cfg, recipe, backbone),
        *optimiser_suits(cfg, backbone, recipe),
    ]


def images_are_the_detectors(cfg: Config, settings: dict) -> Iterator[Change]:
    """The recipe reads and scales images that are no photographs as the detector does."""
    train = cfg.get('train_dataloader')
    readers = [p for p in find_parts(train, 'LoadAnyImage') if p.get('channels')]
    channels = readers[0].channels if readers else image_channels(settings, scope_of(cfg))
    if not readers and channels == 3:
        return
    yield Change('channels', channels, "the detector's images, of which nothing is made RGB.")
    yield Change('model.data_preprocessor.bgr_to_rgb', False, 'their order is that of the files.')
    for key in ('mean', 'std'):
        if value := (cfg.model.get('data_preprocessor') or {}).get(key):
            yield Change(f'model.data_preprocessor.{key}', list(value), "the detector's.")
    if readers and readers[0].get('value_range'):
        found = readers[0].value_range
        yield Change('train_dataloader.dataset.value_range', found, "the detector's.")


def backbone_is_the_detectors(
    cfg: Config, recipe: Config, settings: dict, backbone: nn.Module
) -> Iterator[Change]:
    """The recipe trains the detector's own backbone, from random weights."""
    reason = "the detector's own backbone, so that all of its weights fit"
    if settings.get('out_indices') != cfg.model.backbone.get('out_indices'):
        reason += ', with maps of all four stages for the pyramid'
    if argument(settings, 'drop_path_rate', scope_of(cfg)):
        settings['drop_path_rate'] = 0.0
        reason += ', without stochastic depth, as MoCo v3 trains transformers'
    initialised = dict(settings, init_cfg=recipe.model.backbone.get('init_cfg'))
    if (
        has_batch_norm(backbone)
        and 'init_cfg' in recipe.model.backbone
        and can_be_built(initialised, scope_of(cfg))
    ):
        settings['init_cfg'] = Code('_base_.model.backbone.init_cfg')
        reason += ", initialised as the recipe's"
    yield Change('model.backbone', settings, f'{reason}.')
    imports = [module for module in imports_of(cfg) if module != 'mcl_mm']
    if imports and type(backbone).__module__.split('.')[0] not in KNOWN_PACKAGES:
        yield Change('custom_imports.imports', imports, f'for {type(backbone).__name__}.')


def neck_is_the_detectors(cfg: Config, recipe: Config, backbone: nn.Module) -> Iterator[Change]:
    """The recipe's pyramid fits the backbone, and has the width and the norm of the detector's."""
    given, channels = (
        recipe.model.neck.get('in_channels'),
        image_channels(cfg.model.backbone, scope_of(cfg)),
    )
    if given is not None and list(given) != (widths := stage_channels(backbone, channels=channels)):
        yield Change('model.neck.in_channels', widths, "the widths of the backbone's stages.")
    _, pyramid = pyramid_of(cfg)
    if pyramid is None:
        return
    if pyramid.out_channels != recipe.model.neck.out_channels:
        yield Change(
            'model.neck.out_channels', pyramid.out_channels, "the width of the detector's pyramid."
        )
    norm = dict(pyramid_norm(cfg))
    if names_batch_norm(norm):
        norm['type'] = 'BN'
    if not set(norm.items()) <= set(dict(SYNC_BN, type='BN').items()):
        yield Change('model.neck.norm_cfg', norm, "the norm of the detector's pyramid.")


def pyramid_norm(cfg: Config) -> dict:
    """The norm of a detector's pyramid; batch norm where it has no pyramid, or takes none and has no norm."""
    _, pyramid = pyramid_of(cfg)
    own = argument(pyramid, 'norm_cfg', scope_of(cfg)) if pyramid else None
    return own or SYNC_BN


def optimiser_suits(cfg: Config, backbone: nn.Module, recipe: Config) -> Iterator[Change]:
    """The recipe's optimiser where it suits; AdamW otherwise.

    LARS and SGD are tuned to convs with batch norm, and LARS has to leave norms alone by name.
    """
    optim = recipe.optim_wrapper
    spared = tuple((optim.get('paramwise_cfg') or {}).get('custom_keys') or ())
    by_name = type_name(optim.optimizer) == 'LARS'
    norm = pyramid_norm(cfg)
    unnamed = [
        name
        for name, p in backbone.named_parameters()
        if p.dim() <= 1 and not any(key in name for key in spared)
    ]
    if type_name(optim.optimizer) == 'AdamW' or (
        has_batch_norm(backbone) and names_batch_norm(norm) and not (by_name and unnamed)
    ):
        return
    base = (recipe.get('auto_scale_lr') or {}).get('base_batch_size') or 4096
    yield Change(
        'optim_wrapper.optimizer',
        dict(type='AdamW', lr=float(f'{1.5e-4 * base / 256:.3g}'), weight_decay=0.1),
        f'{type_name(optim.optimizer)} is tuned to convs with batch norm and finds its exceptions by a '
        "ResNet's names. Rate and decay are those that MoCo v3 (arXiv 2104.02057) has for transformers, "
        '1.5e-4 for 256 images; not tried at scale here.',
    )
    yield from adamw_details(backbone, recipe)


def adamw_details(backbone: nn.Module, recipe: Config) -> Iterator[Change]:
    """What AdamW does not decay, and where its rate ends."""
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
                f'the recipe ends at a rate of {part.eta_min}, which is much for AdamW.',
            )


def can_be_built(settings: dict, scope: str) -> bool:
    """Whether a backbone takes these settings; some of MMDetection's take no list of initialisations."""
    try:
        build(settings, scope)
    except Exception:  # foreign code
        return False
    return True


def has_batch_norm(module: nn.Module) -> bool:
    """Whether there is batch norm in a module."""
    return any(map(is_batch_norm, module.modules()))


def probe(cfg: Config) -> tuple[dict, nn.Module]:
    """Build a detector's backbone such that it gives maps of four stages.

    Returns:
        tuple[dict, nn.Module]: Its config for pre-training, with plain trainable batch norm and without
        initialisation; the backbone.

    Raises:
        NoPyramidError: There are no four maps of stride 4, 8, 16 and 32.
        ValueError: It cannot be built.
    """
    scope, settings = scope_of(cfg), dict(cfg.model.backbone)
    channels = image_channels(settings, scope)
    settings['type'] = (
        f'{scope}.{settings["type"]}' if '.' not in settings['type'] else settings['type']
    )
    settings = {k: v for k, v in settings.items() if k not in (*SOURCES, 'frozen_stages')}
    if has_region_stage(cfg):  # the detector has the last stage of the ResNet in its head
        settings.update(WHOLE_RESNET)
    if names_batch_norm(settings.get('norm_cfg')):
        settings['norm_cfg'] = dict(settings['norm_cfg'], type='BN')
    try:
        backbone = build(settings, scope)
    except ValueError as error:
        if not has_region_stage(cfg):
            raise
        raise NoPyramidError(
            f'{type_name(settings)} has no fourth stage, and MCL pre-trains backbones with four'
        ) from error
    try:
        stage_channels(backbone, channels=channels)
        return settings, backbone
    except NoPyramidError as error:
        failure = error
    # The stem and stages of some backbones are counted together.
    for first in range(3) if default_of(settings, 'out_indices', scope) is not None else ():
        candidate = dict(settings, out_indices=(first, first + 1, first + 2, first + 3))
        try:
            backbone = build(candidate, scope)
            stage_channels(backbone, channels=channels)
        except ValueError:  # it has no such stages
            continue
        return candidate, backbone
    raise failure
