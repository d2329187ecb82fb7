"""Images in tar shards, read by an index of where each one begins.

The index is one file for a folder of shards. Processes that are forked share what was read of it; reading
at a place moves no file pointer, so they can share open shards too.
"""

import collections
import errno
import functools
import hashlib
import os
import posixpath
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

import numpy as np

from ..names import passed_over_as, within

INDEX = 'mcl_mm_shards.npz'  # beside the shards
NO_LABEL = -1
HEADER = 512  # bytes before a member's content
OPEN_SHARDS = 256  # of a process; systems allow about 1000 files


class Members(NamedTuple):
    """Files of shards, one element of each field for one file.

    Attributes:
        shards (list[str]): Names of the shards, sorted.
        sizes (np.ndarray): Their sizes, bytes, int64.
        names (list[str]): ``SHARD/NAME`` of each file, in the order of the shards.
        shard (np.ndarray): Number of its shard, int32.
        begin (np.ndarray): Where its content begins, bytes, int64.
        length (np.ndarray): Of its content, bytes, int64.
        check (np.ndarray): CRC-32 of its header, which nothing but this file has, uint32.
        labels (np.ndarray): Its class, int64, or ``NO_LABEL``.
    """

    shards: list[str]
    sizes: np.ndarray
    names: list[str]
    shard: np.ndarray
    begin: np.ndarray
    length: np.ndarray
    check: np.ndarray
    labels: np.ndarray


def list_shards(folder: str) -> list[str]:
    """Names of the shards in a folder, sorted."""
    with os.scandir(folder) as entries:
        return sorted(
            e.name
            for e in entries
            if e.name.lower().endswith('.tar') and not e.name.startswith('.')
        )


def pack_texts(texts: Iterable[str]) -> np.ndarray:
    """Texts without line breaks, as bytes: names of files may hold undecodable ones."""
    return np.frombuffer('\n'.join(texts).encode('utf-8', 'surrogateescape'), np.uint8)


def unpack_texts(data: np.ndarray) -> list[str]:
    """What :func:`pack_texts` was given."""
    text = data.tobytes().decode('utf-8', 'surrogateescape')
    return text.split('\n') if text else []


def read_index(folder: str) -> Members:
    """Read the index of a folder of shards.

    Raises:
        OSError: It cannot be read.
        ValueError: It holds something else.
    """
    path = os.path.join(folder, INDEX)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in Members._fields}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f'{path} is no index of shards, or damaged: write it anew with mcl-mm pack {folder}'
        ) from error
    texts = {name: unpack_texts(found[name]) for name in ('shards', 'names')}
    return Members(**{**found, **texts})


def write_index(path: str, members: Members) -> None:
    """Write an index into an open place; see :func:`~mcl_mm.files.atomic_path`."""
    texts = {name: pack_texts(getattr(members, name)) for name in ('shards', 'names')}
    with open(path, 'wb') as file:
        np.savez(file, **{**members._asdict(), **texts})


class Places:
    """Where each file of some shards begins, found by name in a few microseconds.

    Args:
        members (Members): The index. Names are not kept but as numbers of 8 bytes, so a million images
            take 28 MB, once for all processes that are forked later.
    """

    def __init__(self, members: Members) -> None:
        keys = np.array([key_of(name) for name in members.names], np.uint64)
        order = np.argsort(keys)
        self.keys = keys[order]
        self.begin, self.length = members.begin[order], members.length[order]
        self.check = members.check[order]

    def find(self, name: str) -> Optional[tuple[int, int, int]]:
        """Begin, length and check of a file (``SHARD/NAME``), None if there is none."""
        key = np.uint64(key_of(name))
        at = int(np.searchsorted(self.keys, key))
        if at == len(self.keys) or self.keys[at] != key:
            return None
        return int(self.begin[at]), int(self.length[at]), int(self.check[at])


def key_of(name: str) -> int:
    """A number of 8 bytes for a name."""
    data = name.encode('utf-8', 'surrogateescape')
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), 'little')


PLACES: dict[
    str, Places
] = {}  # by folder; forked processes inherit it, others read the index again


class OpenShard:
    """A file that is closed when nobody holds it any more."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | getattr(os, 'O_CLOEXEC', 0))

    def __del__(self) -> None:
        if hasattr(self, 'descriptor'):
            os.close(self.descriptor)


open_shard = functools.lru_cache(maxsize=OPEN_SHARDS)(OpenShard)


def read_member(shard: str, name: str) -> bytes:
    """Read one file of a shard.

    Args:
        shard (str): Path of the shard, with an index beside it.
        name (str): Of the file in it.

    Raises:
        OSError: It cannot be read: the index does not know it, or knows another shard of that name.
    """
    folder = os.path.dirname(shard)
    if folder not in PLACES:
        PLACES[folder] = Places(read_index(folder))
    place = PLACES[folder].find(f'{os.path.basename(shard)}/{name}')
    if place is None:
        raise OSError(errno.ENOENT, 'the index of its shard does not know it')
    begin, length, check = place
    try:
        data = os.pread(open_shard(shard).descriptor, HEADER + length, begin - HEADER)
    except OSError:
        open_shard.cache_clear()  # a shard that came back has to be opened anew
        raise
    if len(data) < HEADER + length:
        raise OSError(errno.EIO, 'its shard ends too early')
    if zlib.crc32(data[:HEADER]) != check:
        raise OSError(errno.ESTALE, f'its shard is newer than the index: run mcl-mm pack {folder}')
    return data[HEADER:]


class Shards:
    """A folder of tar shards with their index.

    Args:
        folder (str): The folder.

    Raises:
        OSError, ValueError: The index cannot be read, or does not fit the shards.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.members = read_index(folder)
        self.check()
        PLACES[folder.rstrip('/') or folder] = Places(self.members)
        open_shard.cache_clear()

    def check(self) -> None:
        """Compare names and sizes of the shards with those of the index."""
        there = list_shards(self.folder)
        missing, new = set(self.members.shards) - set(there), set(there) - set(self.members.shards)
        if missing:
            raise FileNotFoundError(
                f'{self.folder} lacks {len(missing)} of the shards in its index, first {min(missing)}: '
                f'bring them back, or write the index anew with mcl-mm pack {self.folder}'
            )
        if new:
            raise ValueError(
                f'{self.folder} has {len(new)} shards that its index does not know, first {min(new)}: '
                f'write the index anew with mcl-mm pack {self.folder}'
            )
        for name, size in zip(self.members.shards, self.members.sizes.tolist()):
            path = os.path.join(self.folder, name)
            found = os.path.getsize(path)
            if found != size:
                raise ValueError(
                    f'{path} has {found} bytes, and {size} in the index: copy it anew if it is cut off, '
                    f'else write the index anew with mcl-mm pack {self.folder}'
                )

    def find(
        self, folders: Sequence[str], extensions: Sequence[str], labels: bool
    ) -> tuple[list[dict], 'Counter[str]']:
        """The images of the shards.

        Args:
            folders (Sequence[str]): Of the shards, to take images from; empty for all.
            extensions (Sequence[str]): What names of images end in.
            labels (bool): Whether to give ``gt_label`` too, where there are some.

        Returns:
            tuple: ``dict(img_path=...)`` per image in the order of the shards, and how many other files
            were passed over, by ending.

        Raises:
            FileNotFoundError: Nothing lies in one of the folders.
            ValueError: Some images have a label and others have none.
        """
        data_list, passed_over, empty = [], Counter(), set(folders)
        for name, label in zip(self.members.names, self.members.labels.tolist()):
            _, _, inside = name.partition('/')
            if folders:
                around = {folder for folder in folders if within(inside, folder)}
                empty -= around
                if not around:
                    continue
            kind = passed_over_as(inside, extensions)
            if kind:
                passed_over[kind] += 1
                continue
            info = dict(img_path=os.path.join(self.folder, name))
            data_list.append(dict(info, gt_label=label) if labels else info)
        if empty:
            raise FileNotFoundError(f'no folder {min(empty)!r} in the shards of {self.folder}')
        if labels:
            self.check_labels(data_list)
        return data_list, passed_over

    def check_labels(self, data_list: Sequence[dict]) -> None:
        """Take away labels where no image has one; refuse some without."""
        without = [info for info in data_list if info['gt_label'] == NO_LABEL]
        if without and len(without) < len(data_list):
            raise ValueError(
                f'{without[0]["img_path"]} has no label: a .cls file beside each image must hold one'
            )
        for info in without:
            del info['gt_label']

    @functools.cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Names as a list of the unpacked files has them: ``SHARD/NAME`` of each."""
        found = collections.defaultdict(list)
        for name in self.members.names:
            found[name.partition('/')[2]].append(name)
        return found

    def path_of(self, name: str) -> str:
        """Path of a list's image, with its shard or without.

        Raises:
            ValueError: Several shards have it.
        """
        name = posixpath.normpath(name)
        found = self.by_name.get(name, [name])
        if len(found) > 1:
            raise ValueError(
                f'{name} lies in {len(found)} shards of {self.folder}: write {found[0]} into the list '
                'if this is the one you mean'
            )
        return os.path.join(self.folder, found[0])
