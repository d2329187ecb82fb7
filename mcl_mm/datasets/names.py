"""Names of files: which are images, and which are not meant to be seen."""

import os
import posixpath
from collections.abc import Sequence

# Folders that systems leave beside one's own, but those whose names begin with a dot.
LEFT_BY_SYSTEMS = {
    *('__macosx', '@eadir', '#recycle', '#snapshot', '$recycle.bin', 'lost+found'),
    'system volume information',
}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is not meant to be seen, by its name."""
    return name.startswith('.') or name.lower() in LEFT_BY_SYSTEMS


def passed_over_as(name: str, extensions: Sequence[str]) -> str:
    """What a file is counted as if its name, or a folder before it, tells that it is no image.

    Args:
        name (str): Of the file, with the folders that count.
        extensions (Sequence[str]): What names of images end in, in lower case.

    Returns:
        str: ``''`` for an image.
    """
    if any(is_hidden(part) for part in name.split('/')):
        return 'hidden'
    if '\n' in name or '\r' in name:  # no list could name it
        return 'with a line break in the name'
    if name.lower().endswith(tuple(extensions)):
        return ''
    return os.path.splitext(name)[1].lower() or 'without an ending'


def within(name: str, folder: str) -> bool:
    """Whether a name lies in a folder, both relative to the same one."""
    folder = posixpath.normpath(folder)
    return folder == '.' or name.startswith(folder + '/')
