"""Files that appear under their name when they are complete, or not at all."""

import contextlib
import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Union

SUFFIX = '.mcl_mm_tmp'  # of files that are being written


def check_folder(path: Union[str, Path]) -> None:
    """Find out whether a folder can be written into, or made; makes nothing.

    Raises:
        OSError: It cannot; says what is in the way.
    """
    there = os.path.realpath(path)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise NotADirectoryError(
            f'cannot write into {path}: {there} is a file, not a folder. Give another folder'
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f'cannot write into {path}: you may not write into {there}')


def make_folder(path: Union[str, Path]) -> None:
    """Make a folder that is going to be written to; see :func:`check_folder`."""
    check_folder(path)
    os.makedirs(path, exist_ok=True)


def check_output(path: Union[str, Path]) -> str:
    """Find out whether a file can be written, before there is anything to write.

    A link stands for the file that it leads to.

    Returns:
        str: The file's absolute path.

    Raises:
        OSError: A folder, a device or a pipe has the name, its folder is none, or cannot be written into.
    """
    path = os.path.realpath(path)
    if os.path.isdir(path):
        raise IsADirectoryError(f'{path} is a folder: give the name of a file to write')
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(f'{path} is no plain file: give the name of a file to write')
    check_folder(os.path.dirname(path))
    return path


@contextlib.contextmanager
def atomic_path(path: Union[str, Path]) -> Iterator[str]:
    """A path to write to; what is there at the end takes the place of ``path``.

    Several processes may write the same file: each has a temporary one of its own, in the same folder.

    Args:
        path (str | Path): The file. Folders above it are made. See :func:`check_output`.

    Yields:
        str: Path of an empty file with the same ending.

    Raises:
        OSError: It could not be written. A file that was there before is as it was.
    """
    path = check_output(path)
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    # A short name: the system allows 255 bytes, and ``path`` may have them. Hidden: no image, no checkpoint.
    prefix = f'.{socket.gethostname()[:64]}.{os.getpid()}.'
    descriptor, temporary = tempfile.mkstemp(SUFFIX + os.path.splitext(name)[1], prefix, folder)
    os.close(descriptor)
    try:
        yield temporary
        os.chmod(temporary, mode_of(path))  # mkstemp's are for the owner alone
        with open(temporary, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        name_full_disk(error, path)
        raise
    with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def atomic_folder(path: Union[str, Path]) -> Iterator[str]:
    """A folder to write files to; at the end it becomes ``path``, complete.

    Args:
        path (str | Path): The folder: a new one, or an empty one. Folders above it are made.

    Yields:
        str: Path of an empty folder beside it. What a killed process has left there is removed.

    Raises:
        FileExistsError: ``path`` is a file, or not empty.
        OSError: It could not be written.
    """
    path = os.path.realpath(path)
    if os.path.ismount(path):
        raise FileExistsError(
            f'{path} is a mounted volume: give the name of a new folder inside of it'
        )
    if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise FileExistsError(f'{path} is there already: give the name of a new folder')
    parent = os.path.dirname(path)
    make_folder(parent)
    remove_unfinished(parent)
    temporary = tempfile.mkdtemp(SUFFIX, f'.{socket.gethostname()[:64]}.{os.getpid()}.', parent)
    try:
        yield temporary
        for name in os.listdir(temporary):
            with open(os.path.join(temporary, name), 'rb') as file:
                os.fsync(file.fileno())
        os.chmod(temporary, mode_of(path, 0o777))
        os.rename(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        name_full_disk(error, path)
        raise


def name_full_disk(error: BaseException, path: str) -> None:
    """Raise an OSError that names the file if an error of writing it is a full disk: the system does not."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        raise OSError(
            error.errno,
            f'cannot write {path}: {os.strerror(error.errno)}. Make room, or write elsewhere',
        ) from error


def mode_of(path: str, new: int = 0o666) -> int:
    """Permissions of a file or folder; or those that a ``new`` one gets."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return new & ~mask


def write_bytes(path: Union[str, Path], content: bytes) -> None:
    """Write a file as a whole or not at all, and read it back from the disk.

    Args:
        path (str | Path): The file.
        content (bytes): What it shall hold.

    Raises:
        OSError: See :func:`atomic_path`; or it reads back other than it was written.
    """
    with atomic_path(path) as temporary:
        with open(temporary, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if hasattr(os, 'posix_fadvise'):  # so that reading asks the disk, not the memory
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        check_same(temporary, content)


def write_text(path: Union[str, Path], text: str, encoding: str = 'utf-8') -> None:
    """Write a text file; see :func:`write_bytes`. File names in it may hold undecodable bytes."""
    write_bytes(path, text.encode(encoding, errors='surrogateescape'))


def append_text(path: Union[str, Path], text: str) -> None:
    """Append to a text file, all or nothing. File names in it may hold undecodable bytes.

    Raises:
        OSError: It could not be written, and is as it was.
    """
    size = os.path.getsize(path) if os.path.exists(path) else 0
    try:
        with open(path, 'a', encoding='utf-8', errors='surrogateescape') as file:
            file.write(text)
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, size)
        raise


def check_same(path: str, content: bytes, chunk: int = 1 << 24) -> None:
    """Raise OSError unless the file holds the content."""
    content = memoryview(content)
    with open(path, 'rb') as file:
        for begin in range(0, len(content) + 1, chunk):
            if file.read(chunk) != content[begin : begin + chunk]:
                raise OSError(f'{path} reads back other than it was written')


def unfinished(folder: Union[str, Path]) -> list[str]:
    """Files and folders in a folder that have not been put in their place (yet)."""
    with contextlib.suppress(OSError):
        return [e.path for e in os.scandir(folder) if e.name.startswith('.') and SUFFIX in e.name]
    return []


def remove_unfinished(folder: Union[str, Path]) -> None:
    """Remove what processes of this machine were writing into a folder when they were killed."""
    for path in unfinished(folder):
        host, pid = os.path.basename(path)[1:].split(SUFFIX)[0].rsplit('.', 2)[:2]
        if host != socket.gethostname()[:64]:
            continue  # nobody here knows whether it is still being written
        try:
            os.kill(int(pid), 0)
            alive = int(pid) != os.getpid()
        except ProcessLookupError:
            alive = False
        except PermissionError:  # somebody else's
            alive = True
        if not alive:
            with contextlib.suppress(OSError):
                (shutil.rmtree if os.path.isdir(path) else os.remove)(path)
