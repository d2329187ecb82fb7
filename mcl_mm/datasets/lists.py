"""Lists of images: text files with a path, or a path and a label, on each line."""

import codecs
import contextlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Optional

from mcl_mm.files import write_text

LABELLED = re.compile(r'(.*\S)[ \t]+(\d+)')
MARKS = {
    codecs.BOM_UTF8: 'utf-8',
    codecs.BOM_UTF16_LE: 'utf-16-le',
    codecs.BOM_UTF16_BE: 'utf-16-be',
}


def read_list(path: str, extensions: Sequence[str]) -> list[tuple[int, str]]:
    """Read the lines of a list as editors of any system write it.

    Line breaks of all systems, a mark at the beginning (UTF-8 or UTF-16), blank lines and spaces at the
    end of a line are none of its content; nor are comments, which begin with ``#`` and do not end as an
    image does. Names of files may be made of any bytes.

    Args:
        path (str): The file.
        extensions (Sequence[str]): What names of images end in.

    Returns:
        list[tuple[int, str]]: Number, from 1, and text of each line.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no text, or JSON, or a table.
    """
    with open(path, 'rb') as file:
        data = file.read()
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            text = data[len(mark) :].decode(encoding, 'surrogateescape')
            break
    else:
        text = data.decode('utf-8', 'surrogateescape')
    if '\0' in text:
        raise ValueError(f'{path} is not a text file: save it as UTF-8, with one path on each line')
    if path.endswith('.json') or is_json(text):
        raise ValueError(
            f'{path} is a JSON file, not a list of images: write a text file with one path on each line'
        )
    lines = enumerate((line.rstrip() for line in re.split(r'\r\n|\n|\r', text)), 1)
    lines = [(n, line) for n, line in lines if line and not is_comment(line, extensions)]
    check_no_table(path, lines, extensions)
    return lines


def check_no_table(path: str, lines: list[tuple[int, str]], extensions: Sequence[str]) -> None:
    """Refuse a list in which no line is a path, and names of images stand in quotes or before a comma.

    Raises:
        ValueError: Shows such a line, and what to write.
    """
    ends = tuple(extensions)
    if any(without_label(line, extensions)[0].lower().endswith(ends) for _, line in lines):
        return
    cell = re.compile(f'({"|".join(map(re.escape, ends))})\\s*["\',;\t]', re.IGNORECASE)
    for number, line in lines:
        if cell.search(line):
            raise ValueError(
                f'{path}, line {number}, is of a table, not of a list of images: {line!r}. Write one path on '
                'each line, without quotes; a label may follow after a space'
            )


def is_json(text: str) -> bool:
    """Whether a text, or its first line, is JSON; names of folders may begin with a bracket, too."""
    start = text.lstrip()
    for part in (start, start.partition('\n')[0]) if start[:1] in ('{', '[') else ():
        with contextlib.suppress(ValueError, RecursionError):
            json.loads(part)
            return True
    return False


def is_comment(line: str, extensions: Sequence[str]) -> bool:
    """Whether a line names no image."""
    labelled = split_label(line)
    name = labelled[0] if labelled else line
    return line.startswith('#') and not name.lower().endswith(tuple(extensions))


def split_label(line: str) -> Optional[tuple[str, int]]:
    """Path and label of a line, None if it has no label."""
    match = LABELLED.fullmatch(line)
    return (match[1], int(match[2])) if match else None


def without_label(line: str, extensions: Sequence[str]) -> tuple[str, Optional[int]]:
    """Path of a line, and its label if what stands before a number ends as an image does."""
    labelled = split_label(line)
    if labelled and labelled[0].lower().endswith(tuple(extensions)):
        return labelled
    return line, None


def join(folder: str, name: str) -> str:
    """Path of a list's image; a name of Windows is tried with slashes."""
    path = os.path.join(folder, name)
    if '\\' in name and not os.path.exists(path):
        return os.path.join(folder, name.replace('\\', '/'))
    return path


def write_list(path: str, lines: Iterable[str]) -> None:
    """Write a list for :func:`read_list`, as a whole or not at all."""
    write_text(path, ''.join(f'{line}\n' for line in lines))
