"""Pre-trained weights into a detector, under any launcher."""

from collections import OrderedDict
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from mcl_mm.registry import HOOKS
from mcl_mm.transfer.fit import fit_to_detector, is_complete

PARTS = ('backbone', 'neck', 'box_head')


@HOOKS.register_module()
class TransferHook(Hook):
    """Fit what ``load_from`` names to the detector before it is loaded.

    A run that resumes, and a file that has every weight of the detector (its own checkpoint, as in
    a test), are left alone.

    Args:
        parts (Sequence[str]): What to carry, of ``'backbone'``, ``'neck'`` and ``'box_head'`` (all
            that the file has for heads). The rest starts as the config initialises it. Defaults to
            all three.

    Raises:
        ValueError: A part is none of the three.
    """

    priority = 'VERY_HIGH'  # before EMAHook, which copies the weights

    def __init__(self, parts: Sequence[str] = PARTS) -> None:
        if not parts or not set(parts) <= set(PARTS):
            raise ValueError(f'parts must be some of {PARTS}, got {parts!r}')
        self.parts = tuple(parts)

    def fit(self, state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        """The weights that a detector is given, under its names.

        Args:
            state_dict (dict[str, Tensor]): Of the file.
            model (nn.Module): The detector, wrapped or not.
        """
        if is_complete(state_dict, model):
            return state_dict
        fitted = fit_to_detector(state_dict, model)
        return {name: value for name, value in fitted.items() if part(name) in self.parts}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the names of the file by those of the detector."""
        if runner._resume:
            return
        state_dict = checkpoint.get('state_dict', checkpoint)
        plain = {name.removeprefix('module.'): value for name, value in state_dict.items()}
        fitted = OrderedDict(self.fit(plain, runner.model))
        fitted._metadata = getattr(state_dict, '_metadata', OrderedDict())  # versions of layers
        checkpoint['state_dict'] = fitted


def part(name: str) -> str:
    """Which of ``PARTS`` a weight belongs to."""
    first = name.split('.')[0]
    return first if first in PARTS else 'box_head'
