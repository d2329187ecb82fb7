"""Pre-trained weights into a detector, under any launcher."""

import logging
from collections import OrderedDict
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mcl_mm.registry import HOOKS
from mcl_mm.transfer.checkpoint import weights_in
from mcl_mm.transfer.detector.doctor import diagnose
from mcl_mm.transfer.detector.fit import PARTS, is_complete
from mcl_mm.transfer.formats.mmdet import from_mmdet

from .runner_access import resumes, start_file


@HOOKS.register_module()
class TransferHook(Hook):
    """Fit what ``load_from`` names to the detector, and say what of it is used.

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

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Examine the file, and replace its names by those of the detector.

        Raises:
            ValueError: Nothing, or less than expected, would load; on all processes.
        """
        if resumes(runner):
            return
        state_dict = checkpoint.get('state_dict', checkpoint.get('model', checkpoint))
        plain, _ = weights_in(checkpoint, start_file(runner))
        if is_complete(plain, runner.model):
            runner.logger.info('The file has every weight of the detector and is taken as it is.')
            return
        diagnosis = diagnose(
            runner.model,
            dict(state_dict=plain, meta=checkpoint.get('meta'), path=str(start_file(runner))),
            runner.cfg,
            self.parts,
            runner.world_size,
        )
        level = logging.WARNING if diagnosis.traps or diagnosis.errors else logging.INFO
        runner.logger.log(level, f'Weights of {start_file(runner)}:\n{diagnosis.text()}')
        diagnosis.check()
        fitted = OrderedDict(diagnosis.fitted)
        fitted._metadata = getattr(state_dict, '_metadata', OrderedDict())  # versions of layers
        checkpoint['state_dict'] = fitted

    def before_train(self, runner: Runner) -> None:
        """Say so if there is nothing to transfer."""
        if not start_file(runner) and not resumes(runner):
            runner.logger.warning(
                'No load_from: nothing is transferred and the detector starts as its config says.'
            )


class StartFromExport(Hook):
    """Gives an export, which has a detector's names, those of the pre-training model it came from.

    :func:`~mcl_mm.engine.check_start` adds it to a pre-training run whose ``load_from`` is an export.
    """

    priority = 'VERY_HIGH'

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Replace the names, before the model loads them."""
        weights, _ = weights_in(checkpoint, start_file(runner))
        checkpoint['state_dict'] = OrderedDict(from_mmdet(weights))
