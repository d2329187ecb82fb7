"""What happens to a run of :mod:`tiny_runs`; imported by the run's own process."""

import os
import random
import signal
import time
import types
from pathlib import Path

import mmengine.config.config
import mmengine.runner.loops
import torch.utils.cpp_extension  # noqa: F401  (a run imports it when it looks for a compiler)
import yapf.yapflib.yapf_api
from mmengine.hooks import Hook
from mmpretrain.models import ResNet

from mcl_mm.engine import SafeCheckpointHook
from mcl_mm.registry import HOOKS, MODELS

REAL_TIME = time.time
# Formatting the config for every checkpoint takes longer than the runs. MMEngine's versions call it
# under different names.
for module in (yapf.yapflib.yapf_api, mmengine.config.config):
    if hasattr(module, 'FormatCode'):
        module.FormatCode = lambda text, **_: (text, True)
# Where a run by iterations begins its data anew, MMEngine waits two seconds for other processes.
mmengine.runner.loops.time = types.SimpleNamespace(sleep=lambda seconds: None)


@MODELS.register_module()
class HalfResNet(ResNet):
    """ResNet-18 with one block a stage instead of two."""

    arch_settings = {18: (ResNet.arch_settings[18][0], (1, 1, 1, 1))}


@HOOKS.register_module()
class FaultHook(Hook):
    """Something happens to process ``rank`` in iteration ``at``, counted from 0.

    Args:
        at (int): The iteration.
        what (str): ``'raise'`` an error in place of the step; let features ``'overflow'``; from then on
            turn the ``'clock'`` a day back and forth; ``'pause'`` until a signal asks to stop, which the
            file ``paused`` in the work dir invites to; or send the process a signal, by its name.
        rank (int): Defaults to 0.
    """

    def __init__(self, at: int, what: str = 'raise', rank: int = 0) -> None:
        self.at, self.what, self.rank = at, what, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Let it happen."""
        if self.what == 'clock' and runner.iter >= self.at:
            time.time = lambda: REAL_TIME() + random.Random().choice((-86400, 86400))
            return
        if (runner.iter, runner.rank) != (self.at, self.rank):
            return
        if self.what == 'raise':
            raise Interrupted
        if self.what == 'overflow':
            runner.model.backbone.conv1.register_forward_hook(
                lambda module, inputs, output: output * float('inf')
            )
        elif self.what == 'pause':
            saver = next(hook for hook in runner.hooks if isinstance(hook, SafeCheckpointHook))
            (Path(runner.work_dir) / 'paused').touch()
            while not saver.signal.received:
                time.sleep(0.05)
        else:
            os.kill(os.getpid(), getattr(signal, self.what))


class Interrupted(BaseException):
    """As sudden as it can be without ending the process."""
