"""The ledger: a file with one line of JSON for each finished run."""

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Optional

import torch

from mcl_mm.files import atomic_path

SCHEMA = 1
LIBRARIES = ('mcl_mm', 'torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet', 'mmpretrain')
# What every line has; a pre-training has its `method` and `multiply_adds`, a fine-tuning its `detector`,
# `start`, `origin` and `val`.
FIELDS = {
    *('schema', 'kind', 'identity', 'finished', 'command', 'config', 'seed', 'train'),
    *('images_seen', 'processes', 'minutes', 'versions', 'device', 'metrics'),
}


def read_ledger(path: Path) -> list[dict]:
    """The entries of a ledger; none of a file that is not there.

    Raises:
        ValueError: A line is no entry; says which.
    """
    if not path.exists():
        return []
    entries = []
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f'{path} is no ledger, which is a text of lines of JSON: {error}'
        ) from error
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f'{path}, line {number} is not JSON: {error}. Remove or mend it'
            ) from None
        lacking = FIELDS - entry.keys() if isinstance(entry, dict) else FIELDS
        if lacking:
            raise ValueError(
                f'{path}, line {number} is no entry of a ledger: it lacks {", ".join(sorted(lacking))}'
            )
        if entry['schema'] != SCHEMA:
            raise ValueError(
                f'{path}, line {number} has schema {entry["schema"]}, this version reads {SCHEMA}'
            )
        if wrong := wrong_field(entry):
            raise ValueError(
                f'{path}, line {number} is no entry of a ledger: {wrong} is {entry.get(wrong)!r}. Remove or '
                'mend it'
            )
        entries.append(entry)
    return entries


def wrong_field(entry: dict) -> Optional[str]:
    """The first field of an entry whose value is of a kind that no run has written; None if all are right."""
    metrics, minutes = entry['metrics'], entry['minutes']
    if not isinstance(metrics, dict) or not all(map(is_number, metrics.values())):
        return 'metrics'
    if minutes is not None and not is_number(minutes):
        return 'minutes'
    if entry['kind'] not in ('pretrain', 'finetune'):
        return 'kind'
    inside = dict(train={'images'})  # what dicts hold
    if entry['kind'] == 'finetune':
        inside.update(val={'name', 'images', 'digest'}, origin=set())
    for name, names in inside.items():
        if not isinstance(entry.get(name), dict) or names - entry[name].keys():
            return name
    others = ('detector', 'start') if entry['kind'] == 'finetune' else ('multiply_adds',)
    return next((name for name in others if entry.get(name) is None), None)


def is_number(value: Any) -> bool:
    """Whether a value is a number, of JSON's."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def add_entry(path: Path, entry: dict) -> None:
    """Add an entry, unless one of the same identity is there. The file is whole at every moment.

    Commands that add at the same time wait for each other.

    Raises:
        OSError: It cannot be written.
        ValueError: The file is no ledger.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        entries = read_ledger(path)
        if entry['identity'] in {known['identity'] for known in entries}:
            return
        lines = [json.dumps(one, sort_keys=True) for one in (*entries, entry)]
        with atomic_path(path) as temporary:
            Path(temporary).write_text('\n'.join(lines) + '\n', encoding='utf-8')


@contextlib.contextmanager
def locked(folder: Path, waiting: str = '') -> Iterator[None]:
    """Keep other processes that ask for the same folder out; a disk without locks lets them in.

    Args:
        folder (Path): It has to be there.
        waiting (str): What to print if another process has it. Defaults to '', nothing.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                print(waiting, flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        yield
    finally:
        os.close(descriptor)


class Record(NamedTuple):
    """What a ledger has, or will have, of one run.

    Attributes:
        ledger (Path): The file.
        facts (dict): All of the entry that is known before the run, its ``identity`` among it.
    """

    ledger: Path
    facts: dict

    def entry(self) -> Optional[dict]:
        """The run's entry, if it has finished, wherever that was."""
        identity = self.facts['identity']
        return next((e for e in read_ledger(self.ledger) if e['identity'] == identity), None)

    def add(self, metrics: dict[str, float], minutes: Optional[float]) -> None:
        """Write down how the run ended.

        Args:
            metrics (dict[str, float]): Its result.
            minutes (float, optional): How long it took; None if that is not known.
        """
        finished = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())
        end = dict(finished=finished, minutes=minutes, metrics=metrics)
        add_entry(self.ledger, dict(schema=SCHEMA, **self.facts, **end, **surroundings()))


def surroundings() -> dict:
    """Versions and the kind of machine; nothing that names a machine or a person."""
    versions = {name: str(import_module(name).__version__) for name in LIBRARIES}
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    else:
        device = f'CPU, {platform.machine()}, {os.cpu_count()} cores'
    return dict(versions=dict(python=platform.python_version(), **versions), device=device)
