"""What a data worker does first."""

import os

from mcl_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Leave a worker the seeds that PyTorch has given it.

    PyTorch seeds a worker's own, NumPy's and Python's generators by process, worker and epoch.
    MMEngine's default, which this displaces, seeds them again, alike in every epoch for workers that
    are started anew.

    Ctrl-C, and some schedulers, signal a whole process group: the run, which then finishes its
    iteration and saves, but also the workers that it needs for this. So a worker leaves the group.

    Args:
        worker_id (int): Not used.
    """
    os.setpgid(0, 0)
