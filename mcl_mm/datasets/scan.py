"""Which files below a folder are images, and what else lies there."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence

from mmengine.logging import print_log
from PIL import features

from .decoding import shown
from .names import is_hidden, passed_over_as

EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.bmp', '.tif', '.tiff'),
    *('.jp2', '.j2k', '.ppm', '.pgm', '.pbm', '.pnm'),
    *(['.avif'] if features.check('avif') else []),
)
ARRAYS = '.npy'
# Pictures that are not read: to be converted first.
OTHER_PICTURES = {
    *('.heic', '.heif', '.avif', '.jxl', '.gif', '.svg', '.psd', '.tga', '.exr', '.hdr'),
    *('.dng', '.cr2', '.cr3', '.nef', '.arw', '.raf', '.orf', '.rw2', '.dcm', '.nii'),
    ARRAYS,
}


def find_files(roots: Sequence[str], extensions: Sequence[str]) -> tuple[list[str], 'Counter[str]']:
    """Search folders for images. Links are followed; no folder is searched twice.

    Args:
        roots (Sequence[str]): The folders.
        extensions (Sequence[str]): What names of images end in, in lower case.

    Returns:
        tuple: Paths, by root, sorted by folder and name; and how many other files were passed over, by
        ending.
    """
    paths, passed_over = [], Counter()
    for folder, files in find_folders(roots):
        for name in sorted(files):
            kind = passed_over_as(name, extensions)
            if kind:
                passed_over[kind] += 1
            else:
                paths.append(os.path.join(folder, name))
    return paths, passed_over


def find_folders(roots: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Folders below others and the files in each; a link leads only to where nothing else does."""
    found, seen = [], set()
    waiting = list(enumerate(roots))
    while waiting:
        links = []
        for number, root in waiting:
            for folder, names, files in os.walk(root, onerror=warn_of_folder):
                place = os.stat(folder)
                if (place.st_dev, place.st_ino) in seen:
                    names.clear()
                    continue
                seen.add((place.st_dev, place.st_ino))
                found.append((number, folder, files))
                names[:] = [name for name in names if not is_hidden(name)]
                inside = (os.path.join(folder, name) for name in names)
                links += [(number, path) for path in inside if os.path.islink(path)]
        waiting = sorted(links)
    return [(folder, files) for _, folder, files in sorted(found)]


def warn_of_folder(error: OSError) -> None:
    """Name a folder that cannot be searched."""
    text = f'images below {shown(error.filename)} are left out: {error.strerror}'
    print_log(text, 'current', logging.WARNING)


def describe_passed_over(passed_over: 'Counter[str]', count: int = 8) -> str:
    """How many files of which endings, the most frequent first; and what can be done."""
    kinds = [f'{number} {shown(kind)}' for kind, number in passed_over.most_common(count)]
    others = sum(passed_over.values()) - sum(n for _, n in passed_over.most_common(count))
    text = ', '.join(kinds + ([f'{others} others'] if others else []))
    pictures = sorted(OTHER_PICTURES & passed_over.keys() - {ARRAYS})
    if pictures:
        text += f'. Convert {", ".join(pictures)} to JPEG or PNG if they are to be used'
    if ARRAYS in passed_over:
        text += f'. {ARRAYS} are read where channels=N says how many channels they have'
    return text


def spread(length: int, count: int) -> Iterable[int]:
    """At most ``count`` places spread evenly over ``range(length)``, first and last included."""
    count = min(length, count)
    return [i * (length - 1) // max(count - 1, 1) for i in range(count)]
