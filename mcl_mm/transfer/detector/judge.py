"""One judge for every way in: do a file of weights and a model belong together?

``load_from``, ``init_cfg``, ``--resume``, the doctor, ``adapt`` and the comparisons all ask here.
"""

import os
import re
from collections.abc import Collection, Iterator
from typing import Optional

from mmengine.config import Config
from mmengine.model import BaseModule
from torch import Tensor, nn

from mcl_mm.models.modules import unwrap
from mcl_mm.transfer.checkpoint import read_checkpoint

from .finding import Finding
from .fit import BOX_CONVS, REGION_STAGE
from .load_report import LoadReport, compare
from .sources import Source, best_prefix, source_line, sources_of

# Share of a backbone's parameters that may be missing in a file: deformable convs and plugins, which
# detectors add to a pre-trained backbone, stay below it; the next larger ResNet does not.
ADDED_LAYERS = 0.2
# What classifiers have behind a backbone, and a detector has no use for.
CLASSIFIER = re.compile(r'backbone\.(fc|head|heads|head_dist|classifier)\.')
BOX_STAGE = re.compile(r'roi_head\.bbox_head\.\d+\.shared_convs\.')


def refusals(
    model: nn.Module,
    state_dict: dict[str, Tensor],
    report: LoadReport,
    path: str = 'FILE',
    cfg: Optional[Config] = None,
) -> list[Finding]:
    """Reasons why weights and model do not belong together, the first one first.

    Args:
        model (nn.Module): The model, wrapped or not.
        state_dict (dict[str, Tensor]): The weights, under the names they would be loaded by.
        report (LoadReport): Of :func:`compare`.
        path (str): The file, for lines that load it. Defaults to ``'FILE'``.
        cfg (Config, optional): The config that the lines are for. Defaults to None, not known.
    """
    if any(key.startswith('neck.projector.') for key in report.unexpected):
        text = 'this is a whole pre-training checkpoint, of which a detector would take the backbone only'
        fix = f'make a file for detectors of it first: mcl-mm export {path} OUT.pth'
        return [Finding('not-exported', text, fix)]
    if not report.loaded:
        return [nothing_loads(unwrap(model), state_dict, path, cfg)]
    shapes = other_shape(unwrap(model), state_dict, report, path)
    return [*other_backbone(state_dict, report), *shapes]


def nothing_loads(
    model: nn.Module, state_dict: dict[str, Tensor], path: str, cfg: Optional[Config] = None
) -> Finding:
    """Why no name fits: another prefix, another architecture, or something else altogether."""
    own = model.state_dict()
    theirs, ours = ({name.split('.')[0] for name in names} for names in (state_dict, own))
    wrapped = os.path.isfile(path) and read_checkpoint(path)['wrapped']
    prefixes = {
        part: prefix
        for part in ('backbone', 'neck')
        if isinstance(getattr(model, part, None), BaseModule)
        and (prefix := best_prefix(getattr(model, part), state_dict, wrapped)) is not None
    }
    if 'backbone' in prefixes:
        text = f'none of these weights fits by its name, but they do behind {quoted(prefixes.values())}'
        line = source_line(
            path, {f'model.{part}': prefix for part, prefix in prefixes.items()}, cfg
        )
        return Finding('nothing-loads', text, f'{line}; load_from = None')
    for part in ('backbone', 'neck'):
        found, wanted = (first_below(part, names) for names in (state_dict, own))
        if found and wanted:
            same = set(found) & set(wanted)
            what = 'has other sizes' if same else 'is another architecture'
            text = (
                f'none of these weights fits the model, whose {part} {what}: the file has '
                f'{part}.{{{", ".join(found)}}}, the model {part}.{{{", ".join(wanted)}}}'
            )
            fix = 'give the detector the backbone the weights were pre-trained with'
            return Finding('nothing-loads', text, fix)
    text = (
        f'none of these weights fits the model: their names begin with {sorted(theirs)[:6]}, the model '
        f'has {sorted(ours)[:6]}'
    )
    return Finding('nothing-loads', text, 'take weights with the names of this model')


def quoted(prefixes: Collection[str]) -> str:
    """Prefixes of names, as text."""
    return ' and '.join(repr(f'{prefix}.') if prefix else 'no prefix' for prefix in prefixes)


def first_below(part: str, names: Collection[str], count: int = 5) -> list[str]:
    """The first names below a part of a model, such as ``['conv1', 'bn1', 'layer1']``."""
    below = (name.split('.')[1] for name in names if name.startswith(f'{part}.'))
    return list(dict.fromkeys(below))[:count]


def other_backbone(state_dict: dict[str, Tensor], report: LoadReport) -> Iterator[Finding]:
    """A backbone that the file has more of than the model, or much less."""
    absent = [key for key in report.missing if key.startswith('backbone.')]
    lost = [k for k in report.unexpected if k.startswith('backbone.') and not CLASSIFIER.match(k)]
    size = {key: n for key, n in report.parameters.items() if key.startswith('backbone.')}
    absent_size = sum(size.get(key, 0) for key in absent)
    partly = any(key.startswith('backbone.') for key in state_dict)
    if partly and (lost or absent_size > ADDED_LAYERS * sum(size.values())):
        text = (
            f'the backbones differ: {len(lost + absent)} names are in the file or the model only, '
            f'first {(lost + absent)[0]}'
        )
        fix = 'give the detector the backbone the weights were pre-trained with'
        yield Finding('other-backbone', text, fix)


def other_shape(
    model: nn.Module, state_dict: dict[str, Tensor], report: LoadReport, path: str
) -> Iterator[Finding]:
    """Layers of one name and different sizes."""
    carried = ('backbone.', 'neck.', REGION_STAGE, BOX_CONVS)
    found = [k for k in report.mismatched if k.startswith(carried) or BOX_STAGE.match(k)]
    if found:
        own = model.state_dict()[found[0]]
        text = (
            f"{len(found)} weights have another shape than the model's, first {found[0]}: "
            f'{tuple(state_dict[found[0]].shape)} in the file, {tuple(own.shape)} in the model'
        )
        fix = 'give the detector the backbone and neck the weights were pre-trained with'
        if len(found) == 1:
            fix = other_images(state_dict[found[0]], own, path) or fix
        yield Finding('other-shape', text, fix)


def other_images(theirs: Tensor, ours: Tensor, path: str) -> Optional[str]:
    """What to do if a first convolution takes images of other channels; None if it is something else."""
    differ = [n for n, (x, y) in enumerate(zip(theirs.shape, ours.shape)) if x != y]
    if theirs.dim() != 4 or ours.dim() != 4 or differ != [1]:
        return None
    if theirs.shape[1] == 3:
        return f'mcl-mm convert {path} OUT.pth --channels {ours.shape[1]}, and take OUT.pth'
    return f'model = dict(backbone=dict(in_channels={theirs.shape[1]}))'


def check_load(
    model: nn.Module,
    state_dict: dict[str, Tensor],
    path: str = 'FILE',
    cfg: Optional[Config] = None,
) -> LoadReport:
    """Compare weights with a model and refuse a pair that does not belong together.

    Args:
        model (nn.Module): The model that is about to load them.
        state_dict (dict[str, Tensor]): The weights.
        path (str): The file, for the message. Defaults to ``'FILE'``.
        cfg (Config, optional): The run's, for lines that cure it. Defaults to None, not known.

    Returns:
        LoadReport: What will be loaded and what not.

    Raises:
        ValueError: Nothing fits; it is a pre-training checkpoint and the model is not; a tensor of
            backbone, neck or shared convs has another shape than the model's; or the backbone would
            be loaded in part only.
    """
    report = compare(model, state_dict)
    for reason in refusals(model, state_dict, report, path, cfg):
        raise ValueError(f'{reason.text}. Fix: {reason.fix}\n{report.table()}')
    return report


def check_whole(model: nn.Module, state_dict: dict[str, Tensor], path: str = 'FILE') -> None:
    """Refuse weights that would leave a part of a model as it was initialised.

    Args:
        model (nn.Module): The model that is about to load them.
        state_dict (dict[str, Tensor]): The weights.
        path (str): The file, for the message. Defaults to ``'FILE'``.

    Raises:
        ValueError: As :func:`check_load`, or a tensor of the model is missing or has another shape.
    """
    report = check_load(model, state_dict, path)
    lacking = report.missing + report.mismatched
    if lacking:
        raise ValueError(
            f'{len(lacking)} weights of the model are missing from the file or have another shape '
            f'there, first {lacking[0]}'
        )


def check_sources(
    model: nn.Module, cfg: Optional[Config] = None
) -> list[tuple[Source, LoadReport]]:
    """Judge every part of a model that starts from a file of its own, by ``init_cfg`` or ``pretrained``.

    Args:
        model (nn.Module): About to initialise its weights, wrapped or not.
        cfg (Config, optional): The run's, for lines that cure it. Defaults to None, not known.

    Returns:
        list[tuple[Source, LoadReport]]: Each file, and what of it the part will load.

    Raises:
        OSError: A file cannot be read.
        ValueError: Nothing, or too little, of a file fits its part; says which line would load it.
    """
    model, judged = unwrap(model), []
    for source in sources_of(model):
        part = model.get_submodule(source.where)
        inside = source.state_dict()
        report = compare(part, inside)
        where = f'model.{source.where}' if source.where else 'model'
        if not report.loaded:
            raise ValueError(
                f'{where}.init_cfg would load nothing: {why_nothing(source, part, cfg)}'
            )
        if source.where.split('.')[-1] == 'backbone' and source.by_name:
            full = {f'backbone.{name}': value for name, value in inside.items()}
            holder = nn.Module()
            holder.backbone = part
            try:
                check_load(holder, full, source.path)
            except ValueError as error:
                raise ValueError(f'{where}.init_cfg, {source.path}: {error}') from error
        judged.append((source, report))
    return judged


def why_nothing(source: Source, part: nn.Module, cfg: Optional[Config]) -> str:
    """Why a part takes nothing of its file, and the line that would load it."""
    firsts = list(dict.fromkeys(name.split('.')[0] for name in source.weights))[:6]
    text = f'the names in {source.path} begin with {firsts}'
    if source.prefix and not source.state_dict():
        text += f', none with {source.prefix!r}'
    prefix = best_prefix(part, source.weights, source.wrapped)
    if prefix is None:
        own = list(dict.fromkeys(name.split('.')[0] for name in part.state_dict()))[:6]
        return f'{text}, and it has {own}. Give it the network the weights were trained with'
    where = f'model.{source.where}' if source.where else 'model'
    return f'{text}. Fix: {source_line(source.path, {where: prefix}, cfg)}'
