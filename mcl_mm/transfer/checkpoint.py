"""Reading checkpoint files without running code from them.

``import mcl_mm`` also makes MMEngine read by these functions, so that ``load_from``, ``resume`` and
``init_cfg=dict(type='Pretrained', ...)`` of any run, MMDetection's own tools included, take
safetensors and refuse code.
"""

import hashlib
import json
import logging
import os
import pickle
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, Optional, Union
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine import dist
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengine_checkpoint
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .no_weights import check_file, check_values, check_whole_file, other_content

try:
    from numpy._core import multiarray
except ImportError:  # NumPy below 1.26
    from numpy.core import multiarray

Path = Union[str, os.PathLike]


def history_statistic(owner: type, name: str) -> Callable:
    """Stands in for ``getattr`` while reading: gives a statistic of a logged scalar, nothing else."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError(f'getattr({owner}, {name!r}) in a file of weights')
    return getattr(owner, name)


# What MMEngine's own checkpoints hold beside tensors: the logged scalars of a run, and arrays, which
# NumPy 1 and 2 pickle under different names.
SAFE_GLOBALS = [
    HistoryBuffer,
    (history_statistic, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in '?' + np.typecodes['AllInteger'] + np.typecodes['Float']},
    *(
        (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for name in ('_reconstruct', 'scalar')
    ),
]


def read_checkpoint(path: Path) -> dict:
    """Read a checkpoint, PyTorch's or safetensors, onto the CPU; nothing in it is executed.

    Args:
        path (str | PathLike): The file; also what MMEngine fetches, such as ``'https://...'`` and
            ``'torchvision://resnet50'``.

    Returns:
        dict: ``state_dict`` (names to tensors, a leading ``module.`` removed), ``wrapped`` (bool: one was),
        ``meta`` (dict, empty if the file has none), ``resumable`` (bool: whether a Runner can go on from
        it) and ``path`` (str). Single entries of the state_dict that are no tensors are passed over, by
        name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint, or it needs pickled code to be run.
    """
    remote = '://' in str(path)  # kept in PyTorch's cache, where the run that loads it looks first
    checkpoint = CheckpointLoader.load_checkpoint(path, 'cpu') if remote else read_file(path)
    state_dict, passed_over = weights_in(checkpoint, path)
    if passed_over:
        print_log(
            f'{path} holds more than weights, passed over: {", ".join(passed_over[:5])}'
            + f' and {len(passed_over) - 5} more' * (len(passed_over) > 5),
            'current',
            logging.WARNING,
        )
    meta = checkpoint.get('meta')
    meta = dict(meta) if isinstance(meta, dict) else {}
    return dict(
        state_dict=state_dict,
        meta=meta,
        resumable=is_resumable(checkpoint),
        wrapped=is_wrapped(checkpoint),
        path=str(path),
    )


def is_resumable(checkpoint: Any) -> bool:
    """Whether a Runner can go on from what a file holds: weights alone have no iteration."""
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if not isinstance(meta, dict) or 'message_hub' not in checkpoint:
        return False
    counts = [meta.get(name) for name in ('epoch', 'iter')]
    return all(isinstance(count, int) and count >= 0 for count in counts)


def entries_of(checkpoint: dict) -> dict:
    """The mapping in a checkpoint that holds its weights, if any does."""
    entries = checkpoint.get('state_dict', checkpoint.get('model', checkpoint))
    return entries if isinstance(entries, dict) else {}


def is_wrapped(checkpoint: dict) -> bool:
    """Whether the names of a checkpoint's weights begin with ``module.``, as DataParallel leaves them."""
    return any(str(name).startswith('module.') for name in entries_of(checkpoint))


def weights_in(checkpoint: Any, path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The weights in what a file holds.

    Args:
        checkpoint (Any): Read from the file.
        path (str | PathLike): The file, for the message.

    Returns:
        tuple[dict[str, Tensor], list[str]]: The weights, a leading ``module.`` removed from their names;
        names of single entries among them that are no tensors.

    Raises:
        ValueError: There are no weights, or other things are more than they; or they have no values, or
            values that are not finite.
    """
    if not isinstance(checkpoint, dict):
        raise ValueError(f'{path} holds a {type(checkpoint).__name__}, not weights')
    entries = entries_of(checkpoint)
    weights = {str(k).removeprefix('module.'): v for k, v in entries.items() if torch.is_tensor(v)}
    if 2 * len(weights) <= len(entries) or not weights:
        raise ValueError(
            f'{path} holds no state_dict, a mapping from names to tensors, {other_content(checkpoint, path)}'
        )
    check_values(weights, path)
    return weights, [str(k) for k, v in entries.items() if not torch.is_tensor(v)]


def read_file(path: Path, map_location: Any = 'cpu') -> Any:
    """What ``torch.load`` gives, from PyTorch's files or safetensors; nothing is executed.

    Which of the two a file is shows in its first bytes, not in its name.

    Args:
        path (str | PathLike): The file.
        map_location: As of ``torch.load``; safetensors stay on the CPU. Defaults to ``'cpu'``.

    Returns:
        Any: The object saved; for safetensors a dict of ``state_dict`` and ``meta``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint, or it needs pickled code to be run.
    """
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f'{path} is a folder: give the file of weights in it')
    if not os.path.isfile(path):
        raise FileNotFoundError(f'no checkpoint at {os.path.abspath(path)}')
    if is_safetensors(path):
        return read_safetensors(path)
    check_file(path)
    if str(path).endswith('.safetensors'):
        raise ValueError(f'{path} is named as safetensors but is something else, or damaged')
    check_whole_file(path)
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        with open(path, 'rb') as file:
            bare_pickle = file.read(1) == b'\x80'
        raise refusal(path, error, bare_pickle) from error
    except (RuntimeError, EOFError, LookupError, OSError) as error:
        raise ValueError(f'{path} cannot be read as a PyTorch checkpoint: {error}') from error


def refusal(path: Path, error: pickle.UnpicklingError, bare_pickle: bool = False) -> ValueError:
    """Why a file is not read, in our words."""
    code = re.search(r'(?i)unsupported (?:global: )?GLOBAL (\S+)', str(error))
    if code:
        reason = (
            f'reading it would run code from it, {code[1]}. If you trust it all the same, load it '
            'once with torch.load(weights_only=False) and save its state_dict alone'
        )
    elif bare_pickle:
        reason = "it is a bare pickle, which can run code, as Detectron2's model files are"
    else:
        reason = 'it is damaged'
    return ValueError(f'{path} is not a plain file of weights: {reason}')


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do: the length of a header (8 bytes), then JSON."""
    with open(path, 'rb') as file:
        start = file.read(9)
    return start[8:] == b'{' and int.from_bytes(start[:8], 'little') < os.path.getsize(path)


def read_safetensors(path: Path) -> dict:
    """``state_dict`` and ``meta`` of a safetensors file, on the CPU."""
    try:
        with safe_open(path, framework='pt') as file:
            state_dict = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
        return dict(state_dict=state_dict, meta=json.loads(metadata.get('meta', '{}')))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f'{path} cannot be read as safetensors: {error}') from error


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """MMEngine's loader of files. It falls back on running code from them; this one refuses."""
    checkpoint = read_file(os.path.expanduser(filename), map_location)
    if not isinstance(checkpoint, dict):
        return checkpoint
    if 'state_dict' not in checkpoint and isinstance(checkpoint.get('model'), dict):
        checkpoint['state_dict'] = checkpoint.pop('model')  # where MMEngine looks for weights
    meta = checkpoint.get('meta')
    if isinstance(meta, dict):
        # A Runner that resumes would run this text as Python, to compare numbers of GPUs.
        meta.pop('config', None)
    return checkpoint


def load_from_http(filename: str, map_location: Any = None) -> Any:
    """MMEngine's loader of URLs: once per machine into PyTorch's cache, then as a local file."""
    path = os.path.join(torch.hub.get_dir(), 'checkpoints', cached_name(filename))
    local_rank = int(os.environ.get('LOCAL_RANK', 0))  # every launcher sets it
    if local_rank == 0 and not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        torch.hub.download_url_to_file(filename, path, progress=os.isatty(0))
    dist.barrier()
    return load_from_local(path, map_location)


def cached_name(url: str) -> str:
    """Under which name a file is kept: its own, and a digest of the address unless it has one.

    Whole sites call every file the same, such as ``pytorch_model.bin``.
    """
    name = os.path.basename(urlparse(url).path)
    if re.search(r'-[0-9a-f]{8,}\.', name):
        return name
    stem, ending = os.path.splitext(name)
    return f'{stem}-{hashlib.sha256(url.encode()).hexdigest()[:8]}{ending}'


def forcing_weights_only(loader: Callable) -> Callable:
    """A loader of MMEngine's, run with PyTorch's own switch against code in files."""

    @wraps(loader)
    def load(filename: str, map_location: Optional[Any] = None) -> Any:
        switch = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
        before = os.environ.get(switch)
        os.environ[switch] = '1'
        try:
            with torch.serialization.safe_globals(SAFE_GLOBALS):
                return loader(filename, map_location)
        except pickle.UnpicklingError as error:
            raise refusal(filename, error) from error
        finally:
            os.environ.pop(switch)
            if before is not None:
                os.environ[switch] = before

    return load


def register_loaders() -> None:
    """Make MMEngine read every checkpoint without running code from it."""
    register = CheckpointLoader.register_scheme
    register('', load_from_local, force=True)
    register(('http://', 'https://'), load_from_http, force=True)
    for prefixes, name in (
        (('modelzoo://', 'torchvision://'), 'torchvision'),
        (('open-mmlab://', 'openmmlab://'), 'openmmlab'),
        ('mmcls://', 'mmcls'),
        ('pavi://', 'pavi'),
        ((r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), 'ceph'),
    ):
        loader = getattr(mmengine_checkpoint, f'load_from_{name}')
        register(prefixes, forcing_weights_only(loader), force=True)
