"""A user's detector and the weights of ``mcl_mm``, made to fit: two configs that inherit, with words why."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from mmengine.config import Config
from torch import Tensor, nn

from mcl_mm.channels import MEAN, STD
from mcl_mm.config import type_name
from mcl_mm.files import write_text
from mcl_mm.models.montage_model import NoPyramidError
from mcl_mm.reading import read_config
from mcl_mm.transfer.formats.mmdet import to_mmdet

from .child_config import Change, ChildConfig, Code, as_code, collapsed, comment_lines
from .fit import BOX_CONVS, PARTS, fit_to_detector
from .judge import check_load
from .load_report import LoadReport
from .pretrain import pretrain_changes
from .rules import Case, find
from .settings import (
    LATERALS,
    box_heads_of,
    build,
    has_region_stage,
    image_channels,
    imports_of,
    load_detector,
    parts_of,
    pyramid_of,
    scope_of,
)

HOOK = dict(type='mcl_mm.TransferHook')
# How the recipes' weights are trained, where a file does not tell.
RECIPES = dict(
    input=dict(channel_order='RGB', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(style='pytorch'),
)


def finetune_changes(
    cfg: Config,
    load_from: str,
    names: Optional[Collection[str]] = None,
    meta: Optional[dict] = None,
    model: Optional[nn.Module] = None,
) -> list[Change]:
    """What to change in a detector's config so that it uses as much of the weights as fits.

    Args:
        cfg (Config): The detector's config.
        load_from (str): The file of weights.
        names (Collection[str], optional): The names in it. Defaults to None: all that an export has.
        meta (dict, optional): What it says of ``input`` and ``backbone`` (``docs/formats.md``).
            Defaults to None: they are those of the recipes, or of images with the detector's channels.
        model (nn.Module, optional): The detector, built. Defaults to None: built here.

    Returns:
        list[Change]: The changes of the rules, and those that bring the weights. Data, classes,
        pipelines, batch size and schedule stay as they are.

    Raises:
        ValueError: The detector cannot be built.
    """
    model = model or build(cfg.model, scope_of(cfg))
    model.train()  # detectors with a teacher do not return themselves from it
    usual = dict(RECIPES, input=images_of(cfg))
    meta = {k: (meta or {}).get(k) or value for k, value in usual.items()}
    case = Case(cfg, model, names, meta, parts_of(cfg))
    changes = collapsed(change for finding in find(case) for change in finding.changes)
    return [*changes, *weights_arrive(cfg, load_from)]


def images_of(cfg: Config) -> dict:
    """How a detector's images are prepared where weights do not say it; as ``input`` of an export.

    Those of a backbone that takes other channels than three are no photographs: mean and deviation are the
    detector's own, or neutral ones.
    """
    channels = image_channels(cfg.model.backbone, scope_of(cfg))
    if channels == 3:
        return RECIPES['input']
    own = cfg.model.get('data_preprocessor') or {}
    pixels = {
        key: list(own[key]) if len(own.get(key) or ()) == channels else [value] * channels
        for key, value in (('mean', MEAN), ('std', STD))
    }
    return dict(channel_order='BGR', channels=channels, **pixels)


def weights_arrive(cfg: Config, load_from: str) -> Iterator[Change]:
    """The weights are loaded, into the right levels, with a report."""
    before = f', instead of {cfg.load_from}' if cfg.get('load_from') else ''
    yield Change('load_from', load_from, f'The weights: a file of `mcl-mm export`{before}.')
    yield from hook_changes(cfg)


def hook_changes(cfg: Config) -> Iterator[Change]:
    """A config gets the hook that brings weights to their places, beside its own ones."""
    hooks = cfg.get('custom_hooks') or []
    if not any(type_name(hook) == 'TransferHook' for hook in hooks):
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
        yield Change('custom_imports.imports', [*imports, 'mcl_mm'], 'For TransferHook.')


def carried(cfg: Config, names: Optional[Collection[str]] = None) -> str:
    """In words, what of the weights a detector takes.

    Args:
        cfg (Config): The detector's config, with :func:`finetune_changes` made.
        names (Collection[str], optional): The names in the weights. Defaults to None: an export's.
    """
    _, pyramid = pyramid_of(cfg)
    if pyramid is None:
        neck = cfg.model.get('neck')
        if has_region_stage(cfg):
            return (
                'The weights fill the backbone, whose last stage is roi_head.shared_head. All else starts '
                'at random.'
            )
        kind = neck.type if isinstance(neck, dict) else 'its neck'
        return (
            'The weights fill the backbone alone. '
            + (f'There is no FPN ({kind}), ' if neck else 'There is no neck, ')
            + 'and all behind the backbone starts at random.'
        )
    if names is not None and not any(name.startswith(LATERALS) for name in names):
        return 'The weights hold a backbone and no pyramid: FPN and heads start at random.'
    parts = parts_of(cfg)
    if parts != PARTS:
        return (
            f'The TransferHook of the base config carries {" and ".join(parts)} alone. All else starts at '
            'random.'
        )
    text = 'The weights fill the backbone and the laterals and outputs of the FPN.'
    lowest = 4 - (len(pyramid.in_channels) - pyramid.get('start_level', 0))
    if lowest > 0:
        below = ' and '.join(f'P{level}' for level in range(2, 2 + lowest))
        text += f' This FPN begins at P{2 + lowest}, without a place for {below} of the weights.'
    if pyramid.get('add_extra_convs') and pyramid.num_outs > 4 - lowest:
        text += ' Its levels above P5 start at random.'
    heads = box_heads_of(cfg)
    if heads and (names is None or any(name.startswith(BOX_CONVS) for name in names)):
        stages = f' of each of {len(heads)} stages' if len(heads) > 1 else ''
        return (
            f'{text} The four convs of the projector fill the shared convs of the box head{stages}.'
        )
    if 'roi_head' in cfg.model:
        return f'{text} The box head has no place for convs of the projector and starts at random.'
    return (
        f'{text} The head starts at random: it runs over whole maps, and the convs of the projector over '
        'single objects.'
    )


def check_fit(cfg: Config, state_dict: dict[str, Tensor], path: str = 'FILE') -> LoadReport:
    """Build a detector and compare weights with it as a run will.

    Args:
        cfg (Config): The detector's config, with :func:`finetune_changes` made.
        state_dict (dict[str, Tensor]): The weights.
        path (str): The file, for the message. Defaults to ``'FILE'``.

    Raises:
        ValueError: They belong to another backbone or pyramid; it says where they differ.
    """
    model = build(cfg.model, scope_of(cfg))
    return check_load(model, fit_to_detector(state_dict, model, parts_of(cfg)), path)


class Adapted(NamedTuple):
    """What :func:`adapt` makes of a detector.

    Attributes:
        finetune (ChildConfig): The config that fine-tunes it.
        pretrain (ChildConfig, optional): The config that pre-trains it; None where it cannot be.
        why_not (str): Why there is none.
        filled (LoadReport, optional): What an export of the pre-trained model fills; None without one.
    """

    finetune: ChildConfig
    pretrain: Optional[ChildConfig]
    why_not: str
    filled: Optional[LoadReport]


def adapt(base: str, recipe: str, export: str, checkpoint: Optional[dict] = None) -> Adapted:
    """Find out what to change in a detector's config, and in a recipe for it.

    Args:
        base (str): What a config has as ``_base_``, see :func:`load_detector`.
        recipe (str): Path of the pre-training recipe.
        export (str): The file of weights that the fine-tuning config loads.
        checkpoint (dict, optional): What :func:`~mcl_mm.transfer.read_checkpoint` gives for it. Defaults
            to None: it is still to be made.

    Raises:
        NoPyramidError: The detector cannot be pre-trained and there are no weights.
        OSError, ValueError: A config cannot be opened or built.
    """
    detector = load_detector(base)
    model = build(detector.model, scope_of(detector))
    recorded = (checkpoint or {}).get('meta') or {}
    images = recorded.get('input')
    trained = recorded if isinstance(images, dict) and images.get('channels') else None
    changes = finetune_changes(detector, export, None, trained, model)
    whole = ChildConfig(base, detector, changes)
    pretrain, why_not, filled = None, '', None
    try:
        held = read_config(recipe)
        pretrain = ChildConfig(str(recipe), held, pretrain_changes(whole.load(), held))
        weights = to_mmdet(build(pretrain.load().model, 'mcl_mm').state_dict())
        filled = check_fit(whole.load(), weights)
    except NoPyramidError as error:
        if checkpoint is None:
            raise NoPyramidError(f'{error}. Without --weights there is nothing to carry') from error
        why_not = str(error)
    if checkpoint is None:
        return Adapted(whole, pretrain, why_not, filled)
    names = set(checkpoint['state_dict'])
    changes = finetune_changes(detector, export, names, checkpoint['meta'], model)
    return Adapted(ChildConfig(base, detector, changes), pretrain, why_not, filled)


def write(path: Path, config: ChildConfig, comment: list[str], base: str) -> str:
    """Write a config; never over a file that holds something else.

    Args:
        path (Path): Where.
        config (ChildConfig): What.
        comment (list[str]): Paragraphs above the reasons of its changes.
        base (str): How the file names the config it inherits from.

    Returns:
        str: The comment as it was written, for the terminal.

    Raises:
        FileExistsError: There is such a file.
    """
    paragraphs = [*comment, *config.reasons()]
    text = config.text(paragraphs, base)
    if path.exists() and path.read_text() != text:
        raise FileExistsError(
            f'{path} exists and is different: move it, or choose another --out-dir'
        )
    write_text(path, text)
    return '\n'.join([f'{path}\n', *(f'  {line[2:]}' for line in comment_lines(paragraphs)), ''])


def relative(path: str, folder: Path) -> str:
    """A config as another in ``folder`` names it: relative, but for names such as ``'mmdet::...'``.

    Through a link, ``..`` leads elsewhere for MMEngine than for the system: the path is absolute then.
    """
    if '::' in path:
        return path
    found = os.path.relpath(path, folder)
    reached = os.path.realpath(os.path.join(folder, found))
    return found if reached == os.path.realpath(path) else os.path.abspath(path)
