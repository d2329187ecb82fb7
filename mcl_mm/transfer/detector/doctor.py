"""What a detector makes of its pre-trained weights, and what in its config spoils them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from mmengine.config import Config
from torch import Tensor, nn

from mcl_mm.models.modules import unwrap
from mcl_mm.transfer.parts import part_of

from .adapt import hook_changes
from .finding import Finding, line_of
from .fit import BOX_CONVS, PARTS, REGION_STAGE, fit_to_detector, lateral_channels, part_to_carry
from .judge import refusals
from .load_report import LoadReport, compare
from .rules import Case, find


class Diagnosis(NamedTuple):
    """What :func:`diagnose` found.

    Attributes:
        report (LoadReport): What loads and what does not.
        left_out (list[str]): Names of the file that are not offered to the detector: pyramid levels
            it lacks and parts that are not to be carried.
        errors (list[Finding]): Why nothing, or less than expected, would load.
        traps (list[Finding]): What in the config spoils what has been loaded.
        notes (list[str]): What has no place, or starts at random, in words.
        fitted (dict[str, Tensor]): The weights under the detector's names, as a TransferHook loads them.
    """

    report: LoadReport
    left_out: list[str]
    errors: list[Finding]
    traps: list[Finding]
    notes: list[str]
    fitted: dict[str, Tensor]

    def text(self) -> str:
        """For the terminal: a table, and then the findings."""
        lines = [self.report.table(), *(f'- {note}' for note in self.notes)]
        for title, findings in (('error', self.errors), ('trap', self.traps)):
            for finding in findings:
                lines += [f'{title} [{finding.id}] {finding.text}', f'    fix: {finding.fix}']
        return '\n'.join(lines)

    def to_dict(self) -> dict:
        """For ``json.dumps``; ``docs/doctor.md`` describes it."""
        return dict(
            ok=not self.errors,
            parts=[dict(part=part, **n._asdict()) for part, n in self.report.parts().items()],
            total=self.report.total()._asdict(),
            mismatched=self.report.mismatched,
            unexpected=self.report.unexpected,
            left_out=self.left_out,
            errors=[finding.to_dict() for finding in self.errors],
            traps=[finding.to_dict() for finding in self.traps],
            notes=self.notes,
        )

    def check(self) -> None:
        """Raise ValueError if nothing, or less than expected, would load."""
        for error in self.errors:
            raise ValueError(f'{error.text}. Fix: {error.fix}')


def diagnose(
    model: nn.Module,
    checkpoint: dict,
    cfg: Config,
    parts: Optional[Sequence[str]] = None,
    processes: int = 1,
) -> Diagnosis:
    """Find out what a detector would load from a file, and what in its config spoils that.

    Args:
        model (nn.Module): The detector, wrapped or not; it is put into training mode.
        checkpoint (dict): ``state_dict`` and, where the file has one, ``meta``.
        cfg (Config): Of the run; what it does not say is not judged.
        parts (Sequence[str], optional): What a TransferHook carries. Defaults to None: there is no
            hook and the weights load by their plain names.
        processes (int): That train. Defaults to 1.

    Returns:
        Diagnosis: Nothing is loaded.

    Raises:
        ValueError: The model is no detector with a backbone.
    """
    model = unwrap(model)
    model.train()  # detectors with a teacher do not return themselves from it
    if not hasattr(model, 'backbone'):
        raise ValueError(f'a {type(model).__name__} has no backbone that weights could go to')
    state_dict = checkpoint['state_dict']
    fitted = fit_to_detector(state_dict, model, parts or PARTS)
    given = state_dict if parts is None else fitted
    report = compare(model, given)
    offered = {id(value) for value in given.values()}
    left_out = [name for name, value in state_dict.items() if id(value) not in offered]
    meta = checkpoint.get('meta')
    meta = meta if isinstance(meta, dict) else {}
    case = Case(cfg, model, set(state_dict), meta, parts or PARTS, report, processes)
    errors = [] if parts else list(misplaced(model, state_dict, fitted, cfg))
    hooked = compare(model, fitted) if parts is None else report
    # Of a file whose names all begin otherwise nothing is fitted: the judge sees what it has.
    errors += refusals(model, fitted or state_dict, hooked, checkpoint.get('path', 'FILE'), cfg)
    if not errors and 'backbone' in case.parts and not case.loads('backbone.'):
        text = 'no weight of the backbone would load'
        errors = [Finding('no-backbone', text, 'take weights with names backbone.*')]
    return Diagnosis(report, left_out, errors, find(case), list(notes(case, left_out)), fitted)


def misplaced(
    model: nn.Module, state_dict: dict[str, Tensor], fitted: dict[str, Tensor], cfg: Config
) -> Iterator[Finding]:
    """Weights that plain names put in a wrong place, or in none, and a TransferHook in the right one."""
    own, hook = model.state_dict(), line_of(hook_changes(cfg), cfg)
    wrong = [
        name
        for name, value in fitted.items()
        if name in own and own[name].shape == value.shape and state_dict.get(name) is not value
    ]
    neck = [name for name in wrong if name.startswith('neck.')]
    if neck:
        text = (
            f'{len(neck)} weights of the pyramid would load into a wrong level or into none: this '
            'detector counts its levels, or its necks, otherwise than the file does'
        )
        yield Finding('level-shift', text, hook)
    stage = [name for name in wrong if name.startswith(REGION_STAGE)]
    if stage:
        text = (
            f"{len(stage)} weights of the backbone's last stage have their place in the head of regions "
            f'({stage[0]} ...), under other names'
        )
        yield Finding('region-stage', text, hook)
    heads = [name for name in wrong if not name.startswith(('neck.', REGION_STAGE))]
    if heads:
        text = f'the box-head convs have a place in each stage ({heads[0]} ...), under other names'
        yield Finding('box-head-stages', text, hook)


def notes(case: Case, left_out: list[str]) -> Iterator[str]:
    """What has no place in the detector, and what of backbone and neck starts at random."""
    unused = {}
    for name in [*left_out, *case.report.unexpected]:
        reason = why_unused(case, name, name in left_out)
        unused.setdefault((part_of(name), reason), []).append(name)
    for (part, reason), names in unused.items():
        yield f'{len(names)} tensors of {part} in the file stay unused ({names[0]} ...): {reason}'
    for prefix in ('backbone.', 'neck.', REGION_STAGE):
        random = [name for name in case.report.missing if name.startswith(prefix)]
        if random and case.loads(prefix):
            yield (
                f'{len(random)} tensors of {prefix[:-1]} start at random ({random[0]} ...): layers or '
                'levels that the file has none of'
            )


def why_unused(case: Case, name: str, left_out: bool) -> str:
    """Why a weight of the file is not used."""
    if part_to_carry(name) not in case.parts:
        return 'the TransferHook is told not to carry them'
    if name.startswith(BOX_CONVS) and getattr(case.model, 'roi_head', None) is None:
        return (
            'this detector has no box head for regions; convs of its heads run over whole maps of '
            'several levels and start at random'
        )
    if left_out:
        return 'this detector has no such level'
    if name.startswith('neck.') and not lateral_channels(case.model.state_dict()):
        neck = getattr(case.model, 'neck', None)
        return f'the neck of this detector is {type(neck).__name__ if neck else "missing"}'
    if any(part_of(other) == part_of(name) for other in case.report.loaded):
        return 'its layers there have none'
    return 'this detector has no such layers'
