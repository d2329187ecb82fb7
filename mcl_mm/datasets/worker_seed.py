"""Random numbers of the data workers."""

import random

import numpy as np
import torch

from mcl_mm.registry import FUNCTIONS


@FUNCTIONS.register_module()
def seed_worker(worker_id: int) -> None:
    """Seed a worker's NumPy and Python generators from PyTorch's.

    PyTorch gives every worker a seed that depends on its process and changes each epoch. MMEngine's
    default gives workers that are started anew the same numbers in every epoch.

    Args:
        worker_id (int): Not used.
    """
    seed = torch.initial_seed() % 2**32
    np.random.seed(seed)
    random.seed(seed)
