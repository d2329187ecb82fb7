"""From the path of an image to its bytes, wherever it lies."""

import functools
import glob
import os
import re
from collections.abc import Mapping
from io import BytesIO
from typing import Optional, Union

from .shards import INDEX, Shards, read_member
from .tables import Table, find_kind, is_saved, read_row

Store = Union[Shards, Table]
# Where a path may go on inside of a shard or a table.
CONTAINER = re.compile(r'(\.tar|\[[^/\]]*\])(?=/)', re.IGNORECASE)
MAX_FILE = 2**30  # bytes of a loose file; larger ones are no photographs


def find_store(folder: str, table: Mapping[str, str]) -> Optional[Store]:
    """The shards or the table that a folder says it holds: by an index, or as ``save_to_disk`` does.

    Args:
        folder (str): The folder.
        table (Mapping[str, str]): See :class:`Table`.

    Raises:
        OSError, ValueError: There is one that cannot be used.
    """
    kind_of.cache_clear()  # a set is built: folders may have become others
    find_kind.cache_clear()
    if os.path.isfile(os.path.join(folder, INDEX)):
        return Shards(folder)
    return Table(folder, table) if is_saved(folder) else None


def find_table(folder: str, table: Mapping[str, str]) -> Optional[Table]:
    """The Parquet or Arrow files of a folder that has no loose images; as :func:`find_store`."""
    return Table(folder, table) if find_kind(folder) else None


def advise(folder: str) -> str:
    """What to do with a folder in which no image was found, '' if nothing comes to mind."""
    if glob.glob(os.path.join(glob.escape(folder), '*.tar')):
        return f'. Shards need an index: write it with mcl-mm pack {folder}'
    packed = [f'*{ending}' for ending in ('.tar.gz', '.tgz', '.tar.bz2', '.tar.xz', '.tar.zst')]
    if any(glob.glob(os.path.join(glob.escape(folder), pattern)) for pattern in packed):
        return '. Shards must not be compressed: uncompress them, then run mcl-mm pack ' + folder
    below = glob.glob(os.path.join(glob.escape(folder), '**', '*.tar'), recursive=True)
    if below:
        return f'. Shards lie deeper: give {os.path.dirname(below[0])}'
    return ''


@functools.lru_cache(maxsize=1 << 16)
def kind_of(container: str) -> str:
    """What a part of a path that looks like a container is: ``'shard'``, ``'table'``, or ''."""
    if not container.endswith(']'):
        return 'shard' if os.path.isfile(container) else ''
    is_table = not os.path.lexists(container) and find_kind(os.path.dirname(container))
    return 'table' if is_table else ''


def locate(path: str) -> Optional[tuple[str, str, str]]:
    """Kind and path of the container, and the name inside; None for a loose file."""
    for match in CONTAINER.finditer(path):
        container = path[: match.end()]
        kind = kind_of(container)
        if kind:
            return kind, container, path[match.end() + 1 :]
    return None


def stored_bytes(path: str) -> Optional[bytes]:
    """Content of an image that a container holds, None for a loose file."""
    found = locate(path)
    if found is None:
        return None
    kind, container, name = found
    return read_member(container, name) if kind == 'shard' else read_row(container, name)


def as_file(path: str) -> Union[str, BytesIO]:
    """What a decoder can open: the path of a loose file, or the content of another.

    Raises:
        OSError: It cannot be read. Loose files are not tried.
    """
    content = stored_bytes(path)
    return path if content is None else BytesIO(content)


def read_bytes(path: str) -> bytes:
    """Content of an image, ``MAX_FILE`` bytes of it at most.

    Raises:
        OSError: It cannot be read.
    """
    content = stored_bytes(path)
    if content is not None:
        return content
    with open(path, 'rb') as file:
        return file.read(MAX_FILE)


def unpacked(path: str) -> str:
    """The path that an image would have if its container were unpacked where it lies."""
    found = locate(path)
    return path if found is None else os.path.join(os.path.dirname(found[1]), found[2])
