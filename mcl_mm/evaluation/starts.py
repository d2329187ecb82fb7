"""What a detector starts from: random weights, cuts of an export, files of any origin by a name."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

from mmengine.config import Config
from torch import Tensor, nn

from mcl_mm.config import type_name
from mcl_mm.transfer import diagnose, read_checkpoint
from mcl_mm.transfer.detector.fit import PARTS, fit_to_detector
from mcl_mm.transfer.detector.load_report import compare
from mcl_mm.transfer.detector.settings import build, scope_of
from mcl_mm.transfer.detector.sources import SOURCES, best_prefix, start_is_a_file
from mcl_mm.transfer.export import write

from .identity import file_digest

RANDOM = 'random'  # what the baseline is called
# Cuts of one export, each with what the one before it carries.
CUTS = {RANDOM: (), 'backbone': PARTS[:1], '+neck': PARTS[:2], '+box_head': PARTS}


class Start(NamedTuple):
    """What a detector starts from.

    Attributes:
        name (str): For people, and of the folders of its runs.
        weights (str): The file that runs load; empty for random weights.
        parts (tuple[str, ...]): What a TransferHook carries of it.
        source (str): The file that was given, where ``weights`` is made of it. Defaults to ``weights``.
    """

    name: str = RANDOM
    weights: str = ''
    parts: tuple[str, ...] = ()
    source: str = ''

    def digest(self) -> str:
        """Of the content of the file that was given; empty for random weights."""
        return file_digest(self.source or self.weights) if self.weights else ''


def start_from(cfg: Config, start: Start) -> Config:
    """A detector's config with a start of its own.

    Args:
        cfg (Config): A detector's. Not changed.
        start (Start): What it starts from.
    """
    cfg = Config(cfg.to_dict())
    # A second source of weights would make no start what its name says.
    for part in filter(None, (cfg.model, cfg.model.backbone, cfg.model.get('neck'))):
        for one in part if isinstance(part, list) else [part]:
            for source in SOURCES:
                if start_is_a_file(one.get(source)):
                    one[source] = None
    if 'base_batch_size' in cfg.get('auto_scale_lr', {}):
        cfg.auto_scale_lr.enable = True  # the config's rate is for its own number of GPUs
    cfg.load_from = os.path.abspath(start.weights) if start.parts else None
    others = [h for h in cfg.get('custom_hooks') or [] if type_name(h) != 'TransferHook']
    hook = dict(type='mcl_mm.TransferHook', parts=start.parts)
    cfg.custom_hooks = [*others, hook] if start.parts else others
    return cfg


def chosen_starts(
    cfg: Config,
    export: Optional[str],
    cuts: Sequence[str],
    given: Sequence[str],
    out: Path,
    processes: int = 1,
) -> dict[str, Start]:
    """All starts of a comparison, by name.

    Args:
        cfg (Config): The detector's.
        export (str, optional): Of which ``cuts`` are taken; None for random weights alone.
        cuts (Sequence[str]): Some of ``CUTS``.
        given, out: See :func:`named_starts`.
        processes (int): That train. Defaults to 1.

    Raises:
        OSError, ValueError: A file is no start for the detector, or there is no start.
    """
    if export:
        starts = starts_with_room(cfg, export, cuts, processes)
    else:
        starts = {RANDOM: Start()} if RANDOM in cuts else {}
    starts.update(named_starts(cfg, given, out, processes))
    if not starts or not (export or given):
        raise ValueError('which weights? Give an export, or --start NAME=FILE')
    return starts


def starts_with_room(
    cfg: Config, weights: str, wanted: Iterable[str] = CUTS, processes: int = 1
) -> dict[str, Start]:
    """The wanted cuts of an export that differ for a detector; says which do not.

    Args:
        cfg (Config): The detector's.
        weights (str): The export.
        wanted (Iterable[str]): Some of ``CUTS``. Defaults to all.
        processes (int): That train. Defaults to 1.

    Raises:
        OSError, ValueError: The weights do not belong to the detector, or it has room for no start.
    """
    model = build(cfg.model, scope_of(cfg))
    checkpoint = read_checkpoint(weights)
    diagnose(model, checkpoint, cfg, PARTS, processes).check()
    starts, before = {RANDOM: Start(RANDOM)}, 0
    for name, parts in list(CUTS.items())[1:]:
        loaded = len(compare(model, fit_to_detector(checkpoint['state_dict'], model, parts)).loaded)
        if loaded > before:
            starts[name] = Start(name, str(weights), parts)
        elif name in wanted:
            print(f'left out: {name}, which this detector has no place for')
        before = loaded
    found = {name: start for name, start in starts.items() if name in wanted}
    if not found:
        raise ValueError(
            f'none of the starts {", ".join(wanted)} is left: this detector can start from '
            f'{", ".join(starts)}'
        )
    return found


def named_starts(
    cfg: Config, given: Sequence[str], out: Path, processes: int = 1
) -> dict[str, Start]:
    """Judge files of any origin as starts of a detector; prints what each gives and what spoils it.

    Args:
        cfg (Config): The detector's.
        given (Sequence[str]): ``'NAME=FILE'`` each.
        out (Path): Folder of the comparison. ``starts/NAME.pth`` there is the backbone of a file with
            another library's names, under the detector's.
        processes (int): That train. Defaults to 1.

    Returns:
        dict[str, Start]: By name.

    Raises:
        OSError: A file cannot be read.
        ValueError: Bad names, or a file that the detector would load nothing, or too little, of.
    """
    starts = {}
    for text in given:
        name, _, path = text.partition('=')
        if not path or not re.fullmatch(r'\w[\w.-]*', name):
            raise ValueError(
                f'--start takes NAME=FILE, with a name of letters, digits, dots and dashes: got {text}'
            )
        folders = (cut.strip('+') for cut in CUTS)  # of the runs from the other starts
        if name in (*CUTS, *folders, *starts):
            raise ValueError(f'--start {text}: another start is called {name} already')
        try:
            starts[name] = judge(cfg, name, path, out, processes)
        except ValueError as error:
            raise ValueError(f'--start {text}: {error}') from error
    return starts


def judge(cfg: Config, name: str, path: str, out: Path, processes: int = 1) -> Start:
    """Ask the doctor about one file; prints its answer.

    Raises:
        OSError, ValueError: See :func:`named_starts`.
    """
    model = build(cfg.model, scope_of(cfg))
    checkpoint = read_checkpoint(path)
    weights = checkpoint['state_dict']
    prefix = foreign_prefix(model, weights)
    if prefix is not None:
        begin = prefix and f'{prefix}.'
        checkpoint['state_dict'] = {
            f'backbone.{key.removeprefix(begin)}': value
            for key, value in weights.items()
            if key.startswith(begin)
        }
    diagnosis = diagnose(model, checkpoint, cfg, PARTS, processes)
    diagnosis.check()
    for part, count in diagnosis.report.parts().items():
        if count.pretrained:
            print(f'{name}: {count.pretrained / count.parameters:.0%} of {part}')
    for trap in diagnosis.traps:
        print(f'{name}: trap [{trap.id}] {trap.text}\n    fix: {trap.fix}')
    if prefix is None:
        return Start(name, path, PARTS)
    renamed = out / 'starts' / f'{name}.pth'
    write(str(renamed), checkpoint['state_dict'], checkpoint['meta'])
    return Start(name, str(renamed), PARTS[:1], path)


def foreign_prefix(model: nn.Module, weights: dict[str, Tensor]) -> Optional[str]:
    """Behind what a file has a detector's backbone; None if it has the detector's names, or no backbone."""
    if any(name in weights for name in model.state_dict() if name.startswith('backbone.')):
        return None
    return best_prefix(model.backbone, weights)
