"""Reading checkpoint files without running code from them."""

import os
import pickle
import re
from collections.abc import Callable
from typing import Union

import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def history_statistic(owner: type, name: str) -> Callable:
    """Stands in for ``getattr`` while reading: gives a statistic of a logged scalar, nothing else."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'getattr({owner}, {name!r}) in a file of weights')
    return getattr(owner, name)


# What MMEngine's own checkpoints hold beside tensors: the logged scalars of a run.
multiarray = (np._core if hasattr(np, '_core') else np.core).multiarray
SAFE_GLOBALS = [
    HistoryBuffer,
    (history_statistic, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ('f8', 'f4', 'i8', 'u4')),
    multiarray._reconstruct,
    multiarray.scalar,
]


def read_checkpoint(path: Union[str, os.PathLike]) -> dict:
    """Read a PyTorch checkpoint onto the CPU; nothing in it is executed.

    Args:
        path (str | PathLike): The file.

    Returns:
        dict: ``state_dict`` (names to tensors, a leading ``module.`` removed), ``meta`` (dict, empty
        if the file has none) and ``resumable`` (bool: whether a Runner can go on from it).

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
        code = re.search(r'(?i)unsupported (?:global: )?GLOBAL (\S+)', str(error))
        with open(path, 'rb') as file:
            bare_pickle = file.read(1) == b'\x80'
        if code:
            reason = f'reading it would run code from it, {code[1]}'
        elif bare_pickle:
            reason = "it is a bare pickle, which can run code, as Detectron2's model files are"
        else:
            reason = 'it is damaged'
        raise ValueError(f'{path} is not a plain file of weights: {reason}') from error
    except (RuntimeError, EOFError, LookupError, OSError) as error:
        raise ValueError(f'{path} cannot be read as a PyTorch checkpoint: {error}') from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__}, not weights')
    state_dict = checkpoint.get('state_dict', checkpoint.get('model', checkpoint))
    meta = checkpoint.get('meta') or {}
    if not isinstance(state_dict, dict) or not all(map(torch.is_tensor, state_dict.values())):
        raise ValueError(
            f'{path} holds no state_dict, a mapping from names to tensors, but '
            f'{", ".join(map(str, checkpoint))}'
        )
    return dict(
        state_dict={key.removeprefix('module.'): value for key, value in state_dict.items()},
        meta=dict(meta),
        resumable='message_hub' in checkpoint and {'epoch', 'iter'} <= set(meta),
    )
