"""What of a file of weights a model will really use."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn

from .fit import BOX_CONVS, unwrap

# Share of a backbone's parameters that may be missing in a file: deformable convs and plugins, which
# detectors add to a pre-trained backbone, stay below it; the next larger ResNet does not.
ADDED_LAYERS = 0.2


class Finding(NamedTuple):
    """Something about a detector and its weights that a user should know.

    Attributes:
        id (str): Names the kind of finding, always the same.
        text (str): What it is and what it costs.
        fix (str): What to do; for a trap a line for the config, ``...`` standing for what is there.
    """

    id: str
    text: str
    fix: str


class PartCount(NamedTuple):
    """Numbers of tensors of a part of the model, and of its parameters.

    Attributes:
        loaded (int): Tensors in both, of one shape.
        missing (int): Tensors only in the model.
        unexpected (int): Tensors only in the file.
        mismatched (int): Tensors in both, of different shapes.
        parameters (int): Scalars that the model has to train.
        pretrained (int): Those of them that start from the file.
    """

    loaded: int
    missing: int
    unexpected: int
    mismatched: int
    parameters: int
    pretrained: int


class LoadReport(NamedTuple):
    """The outcome of loading weights into a model by name, as ``load_from`` does.

    Attributes:
        loaded (list[str]): In both, of one shape.
        missing (list[str]): Only in the model.
        unexpected (list[str]): Only in the file.
        mismatched (list[str]): In both, of different shapes: MMEngine leaves them out.
        parameters (dict[str, int]): Size of each of the model's parameters, in its order.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    parameters: dict[str, int]

    def parts(self) -> dict[str, PartCount]:
        """Counts per part of the model, in its order, and then of parts that only the file has."""
        counts = [Counter(map(part_of, names)) for names in self[:4]]
        sizes, pretrained, loaded = Counter(), Counter(), set(self.loaded)
        for name, size in self.parameters.items():
            sizes[part_of(name)] += size
            pretrained[part_of(name)] += size * (name in loaded)
        columns = [*counts, sizes, pretrained]
        order = dict.fromkeys(part for column in [sizes, *counts] for part in column)
        return {part: PartCount(*(column[part] for column in columns)) for part in order}

    def total(self) -> PartCount:
        """Counts of the whole model."""
        return PartCount(*map(sum, zip(*self.parts().values())))

    def table(self) -> str:
        """Counts per part and in all, as text."""
        titles = ('loaded', 'missing', 'unexpected', 'mismatched', 'parameters', 'pre-trained')
        lines = [f'{"part":34}' + ''.join(f'{title:>12}' for title in titles)]
        for part, count in [*self.parts().items(), ('all', self.total())]:
            share = f'{count.pretrained / count.parameters:.1%}' if count.parameters else '-'
            numbers = ''.join(f'{number:>12,}' for number in count[:5])
            lines.append(f'{part:34}{numbers}{share:>12}')
        return '\n'.join(lines)


def count_table(columns: dict[str, Iterable[str]]) -> str:
    """How many of each column's names are in each part of a model, as text."""
    counts = {title: Counter(map(part_of, names)) for title, names in columns.items()}
    lines = [f'{"part":40}' + ''.join(f'{title:>12}' for title in counts)]
    for part in sorted(set().union(*counts.values())):
        lines.append(f'{part:40}' + ''.join(f'{count[part]:>12}' for count in counts.values()))
    return '\n'.join(lines)


def part_of(key: str) -> str:
    """The part of a model a name is in.

    >>> part_of('neck.fpn_convs.0.bn.weight')
    'neck.fpn_convs'
    """
    if re.match(r'backbone\.(conv1|bn1|gn1|stem|patch_embed|downsample_layers\.0)\.', key):
        return 'backbone.stem'
    stage = re.match(r'backbone\.(stages|downsample_layers)\.\d+', key)
    if stage:
        return stage[0]
    parts = [name for name in key.split('.')[:-1] if not name.isdigit()]
    depth = 3 if parts[:1] == ['roi_head'] else 2
    return '.'.join(parts[:depth]) or key


def compare(model: nn.Module, state_dict: dict[str, Tensor]) -> LoadReport:
    """Compare the names and shapes of weights with those of a model.

    Args:
        model (nn.Module): The model that is about to load them, wrapped or not.
        state_dict (dict[str, Tensor]): The weights.
    """
    model = unwrap(model)
    own = model.state_dict()
    fits = {name: state_dict[name].shape == own[name].shape for name in state_dict if name in own}
    return LoadReport(
        loaded=[name for name, same in fits.items() if same],
        # Batch norm's counter of batches is in no old file and MMEngine does not miss it.
        missing=[k for k in own if k not in fits and not k.endswith('num_batches_tracked')],
        unexpected=[name for name in state_dict if name not in own],
        mismatched=[name for name, same in fits.items() if not same],
        parameters={name: value.numel() for name, value in model.named_parameters()},
    )


def refusals(model: nn.Module, state_dict: dict[str, Tensor], report: LoadReport) -> list[Finding]:
    """Reasons why weights and model do not belong together, the first one first.

    Args:
        model (nn.Module): The model, wrapped or not.
        state_dict (dict[str, Tensor]): The weights, under the names they would be loaded by.
        report (LoadReport): Of :func:`compare`.
    """
    if any(key.startswith('neck.projector.') for key in report.unexpected):
        text = 'this is a whole pre-training checkpoint, of which a detector would take the backbone only'
        fix = 'turn it into a file for detectors with tools/export.py first'
        return [Finding('not-exported', text, fix)]
    own = unwrap(model).state_dict()
    if not report.loaded:
        text = (
            'none of these weights fits the model: their names begin with '
            f'{sorted({k.split(".")[0] for k in state_dict})[:6]}, the model has '
            f'{sorted({k.split(".")[0] for k in own})[:6]}'
        )
        fix = (
            'take weights with the names of this model; a bare backbone goes into model.backbone = '
            "dict(init_cfg=dict(type='Pretrained', checkpoint=...))"
        )
        return [Finding('nothing-loads', text, fix)]
    found = []
    absent = [key for key in report.missing if key.startswith('backbone.')]
    lost = [key for key in report.unexpected if key.startswith('backbone.')]
    size = {key: n for key, n in report.parameters.items() if key.startswith('backbone.')}
    absent_size = sum(size.get(key, 0) for key in absent)
    partly = any(key.startswith('backbone.') for key in state_dict)
    if partly and (lost or absent_size > ADDED_LAYERS * sum(size.values())):
        text = (
            f'the backbones differ: {len(lost + absent)} names are in the file or the model only, '
            f'first {(lost + absent)[0]}'
        )
        fix = 'give the detector the backbone the weights were pre-trained with'
        found.append(Finding('other-backbone', text, fix))
    carried = ('backbone.', 'neck.', BOX_CONVS)
    box_stage = re.compile(r'roi_head\.bbox_head\.\d+\.shared_convs\.')
    mismatched = [k for k in report.mismatched if k.startswith(carried) or box_stage.match(k)]
    if mismatched:
        key = mismatched[0]
        text = (
            f"{len(mismatched)} weights have another shape than the model's, first {key}: "
            f'{tuple(state_dict[key].shape)} in the file, {tuple(own[key].shape)} in the model'
        )
        fix = 'give the detector the backbone and neck the weights were pre-trained with'
        found.append(Finding('other-shape', text, fix))
    return found


def check_load(model: nn.Module, state_dict: dict[str, Tensor]) -> LoadReport:
    """Compare weights with a model and refuse a pair that does not belong together.

    Args:
        model (nn.Module): The model that is about to load them.
        state_dict (dict[str, Tensor]): The weights.

    Returns:
        LoadReport: What will be loaded and what not.

    Raises:
        ValueError: Nothing fits; it is a pre-training checkpoint and the model is not; a tensor of
            backbone, neck or shared convs has another shape than the model's; or the backbone would
            be loaded in part only.
    """
    report = compare(model, state_dict)
    for reason in refusals(model, state_dict, report):
        raise ValueError(f'{reason.text}. Fix: {reason.fix}\n{report.table()}')
    return report


def check_whole(model: nn.Module, state_dict: dict[str, Tensor]) -> None:
    """Refuse weights that would leave a part of a model as it was initialised.

    Args:
        model (nn.Module): The model that is about to load them.
        state_dict (dict[str, Tensor]): The weights.

    Raises:
        ValueError: As :func:`check_load`, or a tensor of the model is missing or has another shape.
    """
    report = check_load(model, state_dict)
    lacking = report.missing + report.mismatched
    if lacking:
        raise ValueError(
            f'{len(lacking)} weights of the model are missing from the file or have another shape '
            f'there, first {lacking[0]}'
        )
