"""Signals that ask a run to save and stop."""

import os
import signal
import threading

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size

# sysexits.h: temporary failure, try again. A shell sees 128 + n for a signal that killed, 1 for an error.
EXIT_CODE = 75
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StopSignal:
    """Remembers SIGTERM, SIGUSR1 or SIGINT instead of dying of it.

    A second SIGINT ends a single process at once. Several processes ignore repetitions: a scheduler
    and ``torchrun`` may both have passed the first one on. In processes forked meanwhile, SIGTERM does
    what it does anywhere, or the run would wait for them at its end; others are ignored. A data worker
    obeys the SIGTERM of its run alone, see :func:`~mcl_mm.datasets.worker_seed.seed_worker`.
    """

    def __init__(self) -> None:
        self.received = False
        self.previous = {}
        self.group = None
        self.pid = os.getpid()

    def listen(self) -> None:
        """Begin to catch the signals. To be called on all processes."""
        if dist.is_initialized() and dist.get_backend() != 'gloo':
            self.group = dist.new_group(backend='gloo')  # asking must not wait for the GPU
        if threading.current_thread() is threading.main_thread():
            self.previous = {number: signal.signal(number, self._remember) for number in SIGNALS}

    def close(self) -> None:
        """Give the signals back to whom they belonged."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def agreed(self) -> bool:
        """Whether any process was signalled. To be called on all processes at the same place."""
        if get_world_size() == 1:
            return self.received
        received = torch.tensor(self.received, dtype=torch.uint8)
        dist.all_reduce(received, dist.ReduceOp.MAX, self.group)
        return bool(received)

    def _remember(self, number: int, _: object) -> None:
        if os.getpid() != self.pid:
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if not self.received:  # no print: it could interrupt another one
            os.write(2, f'{signal.Signals(number).name}: saving and stopping\n'.encode())
        self.received = True
        if number == signal.SIGINT and get_world_size() == 1:
            signal.signal(number, self.previous[number])
