"""A folder of images as tar shards, and the index of shards."""

import os
import posixpath
import sys
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track

from mcl_mm.files import atomic_folder, atomic_path, check_output

from .decoding import shown
from .storage.shards import HEADER, INDEX, NO_LABEL, Members, list_shards, write_index
from .unlabelled_images import UnlabelledImages


@dataclass
class Packed:
    """What was written.

    Attributes:
        shards (int): Number of them.
        images (int): In all of them.
        size (int): Of all shards, bytes.
        labels (int): Images with a ``.cls`` file.
        passed_over (Counter[str]): Other files, by what they are.
    """

    shards: int = 0
    images: int = 0
    size: int = 0
    labels: int = 0
    passed_over: 'Counter[str]' = field(default_factory=Counter)


def pack(folder: str, out: str, shard_size: int) -> Packed:
    """Copy the images of a folder into shards, byte for byte, in the order in which training lists them.

    The same images give the same shards.

    Args:
        folder (str): Of loose images.
        out (str): Folder to make. It appears when all is written, or not at all.
        shard_size (int): Bytes of images after which a shard ends; a larger image has one of its own.

    Raises:
        OSError: An image cannot be read, ``out`` cannot be written, or is there already.
        ValueError: There is no image in the folder, or it is packed already.
    """
    dataset = UnlabelledImages(folder, pipeline=[], lazy_init=True)
    paths = [info['img_path'] for info in dataset.find_images()]
    if dataset.store is not None:
        raise ValueError(f'{folder} needs no packing: it holds shards or a table already')
    with atomic_folder(out) as unfinished:
        jobs = track(paths, 'packing', console=Console(file=sys.stderr))
        for number, part in enumerate(split(jobs, shard_size)):
            with tarfile.open(
                os.path.join(unfinished, f'images-{number:06d}.tar'), 'w', format=tarfile.GNU_FORMAT
            ) as tar:
                for path in part:
                    add(tar, path, os.path.relpath(path, dataset.img_prefix))
        packed = index(unfinished)
    packed.passed_over = dataset.passed_over
    return packed


def split(paths: Iterator[str], shard_size: int) -> Iterator[Iterator[str]]:
    """Consecutive images, so many that they have ``shard_size`` bytes at most; at least one."""
    part, total = [], 0
    for path in paths:
        size = os.path.getsize(path)
        if part and total + size > shard_size:
            yield part
            part, total = [], 0
        part.append(path)
        total += size
    yield part


def add(tar: tarfile.TarFile, path: str, name: str) -> None:
    """Copy one file into a shard, without what only its disk knows: owner, date, links."""
    info = tarfile.TarInfo(name)
    with open(path, 'rb') as file:
        info.size = os.fstat(file.fileno()).st_size
        tar.addfile(info, file)


def index(folder: str) -> Packed:
    """Write the index of the shards in a folder, and compare nothing with an old one.

    Of files with the same name in a shard the last one counts, as if it were unpacked.

    Args:
        folder (str): With tar shards, ours or WebDataset's: a ``.cls`` file beside an image holds its
            class, other files are passed over.

    Raises:
        OSError: A shard cannot be read, or the index cannot be written.
        ValueError: There is no shard, one is cut off or no tar archive, or there is no image in them.
    """
    shards = list_shards(folder)
    if not shards:
        raise ValueError(f'no shard in {folder}: looked for files that end in .tar')
    check_output(os.path.join(folder, INDEX))  # not after all have been read
    packed, rows = Packed(shards=len(shards)), []
    jobs = track(shards, 'indexing', console=Console(file=sys.stderr))
    for number, name in enumerate(jobs):
        found = read_shard(os.path.join(folder, name), packed)
        rows += [(f'{name}/{inside}', number, *place) for inside, place in found.items()]
    if not rows:
        raise ValueError(f'no image in the {len(shards)} shard(s) of {folder}')
    sizes = [os.path.getsize(os.path.join(folder, name)) for name in shards]
    names, *columns = zip(*rows)
    kinds = (np.int32, np.int64, np.int64, np.uint32, np.int64)
    arrays = [np.array(column, kind) for column, kind in zip(columns, kinds)]
    with atomic_path(os.path.join(folder, INDEX)) as path:
        write_index(path, Members(shards, np.array(sizes, np.int64), list(names), *arrays))
    packed.size = sum(sizes)
    packed.labels = int((arrays[-1] != NO_LABEL).sum())
    packed.images = len(names)
    return packed


def read_shard(path: str, packed: Packed) -> dict[str, tuple[int, int, int, int]]:
    """Where the files of a shard are.

    Args:
        path (str): The shard.
        packed (Packed): Counts what is passed over; changed in place.

    Returns:
        dict: Name to begin, length, check and label; see :class:`Members`.
    """
    found, labels = {}, {}
    try:
        with open(path, 'rb') as file, tarfile.open(fileobj=file, mode='r:') as tar:
            for info in tar:
                name = posixpath.normpath(info.name.lstrip('/'))
                if not info.isreg() or info.issparse() or '\n' in name or '\r' in name:
                    packed.passed_over['no files, or names with line breaks'] += not info.isdir()
                elif name.endswith('.cls'):
                    labels[key_of(name)] = read_label(tar, info, path)
                else:
                    packed.passed_over['earlier files of the same name'] += name in found
                    found.pop(name, None)
                    header = os.pread(file.fileno(), HEADER, info.offset_data - HEADER)
                    found[name] = info.offset_data, info.size, zlib.crc32(header)
            # tarfile stops without a word at what is no header; an end is marked by a block of zeros.
            if os.pread(file.fileno(), HEADER, tar.offset) != bytes(HEADER):
                raise tarfile.ReadError(f'no header and no end at byte {tar.offset}')
    except tarfile.TarError as error:
        raise ValueError(
            f'{shown(path)} is cut off, or no uncompressed tar archive ({error}): get it anew, or '
            'uncompress it'
        ) from error
    return {name: (*place, labels.get(key_of(name), NO_LABEL)) for name, place in found.items()}


def key_of(name: str) -> str:
    """What files of one sample have in common in WebDataset's layout: all before the first dot."""
    folder, base = posixpath.split(name)
    return posixpath.join(folder, base.partition('.')[0])


def read_label(tar: tarfile.TarFile, info: tarfile.TarInfo, path: str) -> int:
    """The integer in a ``.cls`` file.

    Raises:
        ValueError: It holds something else.
    """
    text = tar.extractfile(info).read(32).strip()
    if not text.isdigit() or int(text) >= 2**31:
        raise ValueError(
            f'{info.name} of {path} should hold an integer from 0, the class of an image, got {text!r}'
        )
    return int(text)
