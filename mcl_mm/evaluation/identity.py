"""What makes two runs the same: what is learnt, on which data, from what; not on which machine."""

import contextlib
import functools
import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mcl_mm.datasets.storage.access import stored_bytes
from mcl_mm.transfer.detector.settings import scope_of

# What of a config decides what is learnt and how it is judged. The rest is logs, files and the machine.
LEARNING = (
    'default_scope',
    'model',
    'data_preprocessor',
    'load_from',
    'train_dataloader',
    'val_dataloader',
    'train_cfg',
    'val_cfg',
    'val_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'auto_scale_lr',
    'custom_hooks',
    'sync_bn',
    'sync_bn_group',
    'randomness',
)
# Where data lies, which its digest knows better; how a machine reads it; what is a fact of its own.
ELSEWHERE = {
    *('data_root', 'ann_file', 'data_prefix', 'img_prefix', 'backend_args', 'file_client_args'),
    *('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor', 'seed'),
    'cache',  # of a teacher's embeddings: those that it would compute
}
WEIGHTS = {'load_from', 'checkpoint', 'checkpoint_path', 'pretrained'}


def digest_of(value: Any) -> str:
    """SHA-256 of anything that JSON can hold; tuples are lists, classes their names."""

    def name(part: Any) -> str:
        return getattr(part, '__qualname__', str(part))

    text = json.dumps(value, sort_keys=True, default=name)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: str) -> str:
    """SHA-256 of a file's content; read once a process, unless it changes."""
    facts = os.stat(path)
    return read_digest(path, facts.st_size, facts.st_mtime_ns)


def content_digest(path: str) -> str:
    """SHA-256 of an image, of a file of its own or inside a shard or table: packing does not change it."""
    content = stored_bytes(path)
    return file_digest(path) if content is None else hashlib.sha256(content).hexdigest()


@functools.cache
def read_digest(path: str, size: int, changed: int) -> str:
    """See :func:`file_digest`."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
    return digest.hexdigest()


def config_digest(cfg: Config, processes: int = 1) -> str:
    """Of all in a config that decides what is learnt, and of the number of processes.

    The same on every machine: places of data and seeds are left out, and files of weights stand by their
    content.

    Args:
        cfg (Config): Of a run.
        processes (int): That train. Defaults to 1.
    """
    chosen = {key: without_places(cfg.get(key), key) for key in LEARNING}
    chosen = {key: part for key, part in chosen.items() if part not in (None, {})}
    return digest_of(dict(chosen, processes=processes))


def without_places(part: Any, key: str = '') -> Any:
    """A part of a config without what differs between machines."""
    if isinstance(part, Mapping):
        return {k: without_places(v, k) for k, v in part.items() if k not in ELSEWHERE}
    if isinstance(part, (list, tuple)):
        return [without_places(value, key) for value in part]
    if key in WEIGHTS and isinstance(part, str) and Path(part).is_file():
        return file_digest(part)
    return part


def describe_data(cfg: Config, loader: str) -> dict:
    """The data set behind a loader of a config, read as a run would read it.

    Args:
        cfg (Config): Of a run.
        loader (str): ``'train_dataloader'`` or ``'val_dataloader'``.

    Returns:
        dict: ``name`` (str, folder and list), ``images`` (int) and ``digest`` (str, of all images' content,
        all labels and their order).

    Raises:
        OSError, ValueError: It cannot be read.
    """
    settings = cfg[loader].dataset
    with (
        DefaultScope.overwrite_default_scope(scope_of(cfg)),
        contextlib.redirect_stdout(io.StringIO()),  # pycocotools tells how long reading took
    ):
        dataset = DATASETS.build(settings)
    while not hasattr(dataset, 'get_data_info'):  # MMDetection's wrapper for mosaics
        dataset = dataset.dataset
    digest = hashlib.sha256()
    for index in range(len(dataset)):
        digest.update(digest_of(by_content(dataset.get_data_info(index))).encode())
    return dict(name=data_name(settings), images=len(dataset), digest=digest.hexdigest())


def by_content(info: Any) -> Any:
    """What a data set tells of an image; files stand by their content, and nothing by its place."""
    if isinstance(info, Mapping):
        return {
            key: content_digest(str(value)) if key.endswith('path') and value else by_content(value)
            for key, value in info.items()
            if key not in ('img_id', 'sample_idx', 'file_name')
        }
    if isinstance(info, (list, tuple)):
        return [by_content(value) for value in info]
    return info.tolist() if hasattr(info, 'tolist') else info


def data_name(settings: Any) -> str:
    """For people: the folder of a data set, and its list if it has one."""
    inner = next(inner_settings(settings), {})
    root = Path(str(inner.get('data_root') or '')).name
    return '/'.join(filter(None, (root, Path(str(inner.get('ann_file') or '')).stem)))


def inner_settings(settings: Any) -> Iterator[Mapping]:
    """Configs of data sets that read files, inside their wrappers."""
    if isinstance(settings, Mapping):
        if 'data_root' in settings or 'ann_file' in settings:
            yield settings
        settings = list(settings.values())
    for part in settings if isinstance(settings, (list, tuple)) else ():
        yield from inner_settings(part)
