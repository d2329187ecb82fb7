"""Reading checkpoint files without running code from them."""

import os
import pickle
from typing import Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# What MMEngine's own checkpoints hold beside tensors: the logged scalars of a run.
SAFE_GLOBALS = [
    HistoryBuffer,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ('f8', 'f4', 'i8', 'u4')),
    *(
        (getattr(np, '_core', None) or np.core).multiarray.__dict__[name]
        for name in ('_reconstruct', 'scalar')
    ),
]


def read_checkpoint(path: Union[str, os.PathLike]) -> dict:
    """Read a PyTorch checkpoint onto the CPU; nothing in it is executed.

    Args:
        path (str | PathLike): The file.

    Returns:
        dict: ``state_dict`` (names to tensors, a leading ``module.`` removed) and ``meta`` (dict,
        empty if the file has none).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint, or it needs pickled code to be run.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no checkpoint at {os.path.abspath(path)}')
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f'{path} is not a plain file of weights (reading it would run code from it, or it is '
            f'damaged): {reason}'
        ) from error
    except (RuntimeError, EOFError, KeyError, OSError) as error:
        raise ValueError(f'{path} cannot be read as a PyTorch checkpoint: {error}') from error
    state_dict = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, dict) else None
    if not state_dict or not all(isinstance(v, torch.Tensor) for v in state_dict.values()):
        raise ValueError(f'{path} holds no state_dict, a mapping from names to tensors')
    return dict(
        state_dict={key.removeprefix('module.'): value for key, value in state_dict.items()},
        meta=dict(checkpoint.get('meta') or {}) if 'state_dict' in checkpoint else {},
    )
