"""What of a file of weights a model will really use."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from mmengine.model import is_model_wrapper
from torch import Tensor, nn


class LoadReport(NamedTuple):
    """The outcome of loading weights into a model by name, as ``load_from`` does.

    Attributes:
        loaded (list[str]): In both, of one shape.
        missing (list[str]): Only in the model.
        unexpected (list[str]): Only in the file.
        mismatched (list[str]): In both, of different shapes: MMEngine leaves them out.
    """

    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]

    def table(self) -> str:
        """Counts per part of the model, as text."""
        return count_table(self._asdict())


def count_table(columns: dict[str, Iterable[str]]) -> str:
    """How many of each column's names are in each part of a model, as text."""
    counts = {title: Counter(map(part_of, names)) for title, names in columns.items()}
    lines = [f'{"part":40}' + ''.join(f'{title:>12}' for title in counts)]
    for part in sorted(set().union(*counts.values())):
        lines.append(f'{part:40}' + ''.join(f'{count[part]:>12}' for count in counts.values()))
    return '\n'.join(lines)


def part_of(key: str) -> str:
    """``'neck.fpn_convs.0.bn.weight'`` to ``'neck.fpn_convs'``: the part of a model a name is in."""
    parts = [name for name in key.split('.')[:-1] if not name.isdigit()]
    depth = 3 if parts[:1] == ['roi_head'] else 2
    return '.'.join(parts[:depth]) or key


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
    own = (model.module if is_model_wrapper(model) else model).state_dict()
    report = LoadReport(
        loaded=[k for k in state_dict if k in own and own[k].shape == state_dict[k].shape],
        missing=[k for k in own if k not in state_dict],
        unexpected=[k for k in state_dict if k not in own],
        mismatched=[k for k in state_dict if k in own and own[k].shape != state_dict[k].shape],
    )
    if any(key.startswith('neck.projector.') for key in report.unexpected):
        raise ValueError(
            'this is a whole pre-training checkpoint, of which a detector would take the backbone '
            'only: turn it into a file for detectors with tools/export.py first'
        )
    if not report.loaded:
        raise ValueError(
            'none of these weights fits the model: their names begin with '
            f'{sorted({k.split(".")[0] for k in state_dict})[:6]}, the model has '
            f'{sorted({k.split(".")[0] for k in own})[:6]}'
        )
    carried = ('backbone.', 'neck.', 'roi_head.bbox_head.shared_convs.')
    mismatched = [key for key in report.mismatched if key.startswith(carried)]
    if mismatched:
        key = mismatched[0]
        raise ValueError(
            f"{len(mismatched)} weights have another shape than the model's, first {key}: "
            f'{tuple(state_dict[key].shape)} in the file, {tuple(own[key].shape)} in the model. '
            'Give the detector the backbone and neck the weights were pre-trained with\n'
            + report.table()
        )
    lost = [k for k in report.missing + report.unexpected if k.startswith('backbone.')]
    if lost and any(k.startswith('backbone.') for k in state_dict):
        raise ValueError(
            f'the backbones differ: {len(lost)} names are in the file or the model only, first '
            f'{lost[0]}\n' + report.table()
        )
    return report
