"""What of a file of weights a model will really use."""

from collections import Counter
from typing import NamedTuple

from torch import Tensor, nn

from mcl_mm.models.modules import unwrap
from mcl_mm.transfer.parts import part_of


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
