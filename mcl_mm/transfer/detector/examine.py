"""A config and a file of weights, examined as the command ``doctor`` does."""

from typing import NamedTuple, Optional

from mmengine.config import Config
from torch import nn

from mcl_mm.config import find_config
from mcl_mm.reading import read_config
from mcl_mm.transfer.checkpoint import read_checkpoint

from .child_config import assignments, collapsed, formatted
from .doctor import Diagnosis, diagnose
from .finding import Finding
from .judge import check_sources
from .rules.backbone import MACHINE
from .settings import DETECTORS, build, carried_parts, scope_of, why_no_base
from .sources import gather


class Examined(NamedTuple):
    """What was examined, and the outcome.

    Attributes:
        config (str): Of the detector.
        weights (str): The file, or files.
        processes (int): That are to train.
        diagnosis (Diagnosis): The outcome.
        on_one (list[Finding]): Further traps on one GPU, where more were assumed.
        block (str): The fixes of all traps that changes cure, as code for one config. Empty without such.
        lazy (bool): The config is of MMEngine's newer style, and none can inherit from it.
    """

    config: str
    weights: str
    processes: int
    diagnosis: Diagnosis
    on_one: list[Finding]
    block: str
    lazy: bool

    def text(self) -> str:
        """For the terminal."""
        lines = [
            f'{self.weights} in {self.config}, {self.processes} process(es)',
            self.diagnosis.text(),
        ]
        for trap in self.on_one:
            lines += [f'on one GPU also: trap [{trap.id}] {trap.text}', f'    fix: {trap.fix}']
        if self.diagnosis.errors or self.diagnosis.traps or self.on_one:
            base = 'plain.py' if self.lazy else self.config
            if self.lazy:
                lines.append(f'{why_no_base(self.config)}.')
            lines.append(
                f'Lines of a fix go into a config that begins with _base_ = {base!r}; a semicolon '
                'parts them. In Python a later line of one name (model = ...) replaces an earlier one.'
            )
        if self.block:
            cured = ', '.join(trap.id for trap in self.diagnosis.traps if trap.changes)
            lines.append(
                f'In place of several fixes take this block; it cures {cured}:\n\n{self.block}'
            )
        return '\n'.join(lines)

    def to_dict(self) -> dict:
        """For ``json.dumps``; ``docs/doctor.md`` describes it."""
        facts = dict(config=self.config, weights=self.weights, processes=self.processes)
        return dict(
            schema=1,
            **facts,
            **self.diagnosis.to_dict(),
            on_one_gpu=[trap.to_dict() for trap in self.on_one],
            block=self.block,
        )


def examine(
    config: str,
    weights: Optional[str] = None,
    options: Optional[dict] = None,
    processes: Optional[int] = None,
) -> Examined:
    """Build a detector and find out what it would load, and what in its config spoils that.

    Args:
        config (str): Path of its config.
        weights (str, optional): The file. Defaults to None: the config's ``load_from``, or what its parts
            start from.
        options (dict, optional): Settings to override. Defaults to None.
        processes (int, optional): That are to train. Defaults to None: as many as the config is for.

    Raises:
        Exception: A config is code, and so is what it builds. ValueError and OSError are ours.
    """
    if processes is not None and processes < 1:
        raise ValueError(f'--processes must be at least 1, got {processes}')
    file = find_config(config)
    cfg = read_config(file, options)
    path, checkpoint = weights or cfg.get('load_from'), None
    if path:
        checkpoint = read_checkpoint(path)
    model = build(cfg.model, scope_of(cfg))
    if not isinstance(model, DETECTORS):
        raise ValueError(f'{config} is not the config of a detector: {type(model).__name__}')
    parts = carried_parts(cfg)
    if checkpoint is None:
        checkpoint, cfg, parts = own_weights(model, cfg, config)
    count = processes or planned_processes(cfg)
    diagnosis = diagnose(model, checkpoint, cfg, parts, count)
    on_one = []
    if processes is None and count > 1:
        known = {trap.id for trap in diagnosis.traps}
        alone = diagnose(model, checkpoint, cfg, parts, 1).traps
        on_one = [trap for trap in alone if trap.id not in known]
    changes = collapsed(change for trap in diagnosis.traps for change in trap.changes)
    block = formatted(assignments(cfg, changes)) if changes else ''
    lazy = Config._is_lazy_import(file)
    return Examined(config, checkpoint['path'], count, diagnosis, on_one, block, lazy)


def own_weights(model: nn.Module, cfg: Config, config: str) -> tuple[dict, Config, None]:
    """The weights that a detector's parts start from, judged; and its config without them.

    Raises:
        ValueError: There are none, or nothing of them fits.
    """
    check_sources(model, cfg)
    checkpoint = gather(model)
    if checkpoint is None:
        raise ValueError(
            f'which weights? {config} has no load_from, and no part of it starts from a file'
        )
    alone = Config(cfg.to_dict())
    for part in (alone.model, alone.model.backbone, alone.model.get('neck')):
        for one in part if isinstance(part, list) else [part or {}]:
            one.pop('init_cfg', None)
            one.pop('pretrained', None)
    return checkpoint, alone, None


def planned_processes(cfg: Config) -> int:
    """For how many processes a config was written: as many as MMDetection's, where it does not tell."""
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base:
        return MACHINE
    per_process = (cfg.get('train_dataloader') or {}).get('batch_size') or 1
    return max(1, base // per_process)
