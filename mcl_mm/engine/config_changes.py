"""Which settings have changed since a checkpoint was saved, by the text of its config."""

from collections.abc import Iterator
from typing import Any

from mcl_mm.transfer.run_config import read_parts

PARTS = ('model', 'custom_hooks', 'optim_wrapper', 'train_cfg', 'train_dataloader')
# Where the data are and how fast they come, which changes no step; and what the optimiser itself tells.
SILENT = (
    *('data_root', 'ann_file', 'data_prefix'),
    *('num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory'),
    'optimizer',
)
LONGEST = 60  # characters of a value that is shown
MOST = 20  # lines
NOT_SET = object()


def config_changes(before: str, now: str) -> list[str]:
    """Settings that two configs have differently, one line each.

    Args:
        before (str): Text of a config, as ``meta['cfg']`` of a checkpoint. It is read as data, not run.
        now (str): That of the run.

    Returns:
        list[str]: ``path: old -> new``; the last one may tell how many more there are.
    """
    old, new = (dict(settings(read_parts(text, PARTS))) for text in (before, now))
    lines = [
        f'{path}: {shown(old.get(path, NOT_SET))} -> {shown(new.get(path, NOT_SET))}'
        for path in {**old, **new}
        if old.get(path, NOT_SET) != new.get(path, NOT_SET)
    ]
    return [*lines[:MOST], f'and {len(lines) - MOST} more'] if len(lines) > MOST else lines


def settings(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Path and value of each setting of nested dicts and lists, but those that change no step."""
    inner = node if isinstance(node, dict) else {}
    if isinstance(node, (list, tuple)):
        inner = dict(enumerate(node))
    if path and not inner:
        yield path, node
    for key, value in inner.items():
        if key not in SILENT:
            yield from settings(value, f'{path}.{key}'.lstrip('.'))


def shown(value: Any) -> str:
    """A value for people."""
    text = 'not set' if value is NOT_SET else str(value)
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'
