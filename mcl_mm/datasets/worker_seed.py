"""What a data worker does first."""

import multiprocessing
import os
import signal
import threading

from mcl_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Leave a worker the seeds that PyTorch has given it.

    PyTorch seeds a worker's own, NumPy's and Python's generators by process, worker and epoch.
    MMEngine's default, which this displaces, seeds them again, alike in every epoch for workers that
    are started anew.

    Ctrl-C, and some schedulers, signal a whole process group: the run, which then finishes its
    iteration and saves, but also the workers that it needs for this. So a worker leaves the group.
    Others send SIGTERM to every process of a job, so a worker obeys it only if the run has sent it.

    Args:
        worker_id (int): Not used.
    """
    os.setpgid(0, 0)
    if hasattr(signal, 'sigwaitinfo'):  # macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # of threads to come as well
        run = multiprocessing.parent_process()  # with a server of forks, not the process above
        parent = run.pid if run else os.getppid()
        threading.Thread(target=obey, args=(parent,), daemon=True).start()


def obey(parent: int) -> None:
    """End this process by a SIGTERM of its parent, or of anyone if another process is above it.

    Args:
        parent (int): Its number.
    """
    while True:
        sender = signal.sigwaitinfo({signal.SIGTERM}).si_pid
        if sender == parent or os.getppid() != parent:
            os._exit(0)
