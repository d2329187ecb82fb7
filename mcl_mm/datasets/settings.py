"""What settings of data sets must be, and what to write where they are not."""

import os
from collections.abc import Sequence
from math import isfinite
from typing import Any, Optional

from .decoding import shown


def check_path(name: str, value: Any) -> None:
    """Refuse what is not the path of a file or folder.

    Raises:
        ValueError: ``value`` is a number, a list, ...
    """
    if not isinstance(value, (str, os.PathLike)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        write = (
            f"{name}='{value}' in a config, {name}=./{value} on the command line" if number else ''
        )
        raise ValueError(
            f'{name} must be a path, got {value!r}: write ' + (write or f"{name}='path/to/it'")
        )


def check_folder(folder: str) -> None:
    """Refuse what is not the folder of a set of images.

    Raises:
        FileNotFoundError: There is none.
    """
    if os.path.isdir(folder):
        return
    where = shown(os.path.abspath(folder))
    advice = 'set train_dataloader.dataset.data_root to the folder that holds your images'
    if '://' in folder:
        where, advice = folder, 'it is an address: download it, and give the folder'
    elif os.path.isfile(folder):
        advice = f'it is a file. Give the folder that it lies in, {os.path.dirname(folder) or "."}'
    raise FileNotFoundError(f'no image folder at {where}: {advice}')


def check_table(value: Any) -> None:
    """Refuse what does not say which split and columns of a table to read.

    Raises:
        ValueError: ``value`` is no dict of texts, or has other keys.
    """
    if value is None:
        return
    keys = ('split', 'image', 'label')
    good = isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
    if not good or set(value) - set(keys):
        raise ValueError(
            f'table must be a dict of texts, of {", ".join(keys)}, got {value!r}: write '
            "table=dict(split='train', image='image')"
        )


def check_strings(name: str, value: Any) -> None:
    """Refuse what is not a list of strings, a single string above all, whose letters would count.

    Raises:
        ValueError: ``value`` is none.
    """
    texts = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else None
    if texts is None or not all(isinstance(text, str) for text in texts):
        wanted = [str(item) for item in texts] if texts else [str(value)]
        raise ValueError(f'{name} must be a list of strings, got {value!r}: write {name}={wanted}')


def check_pixels(mean: Any, std: Any) -> None:
    """Refuse what images cannot be normalised by.

    Raises:
        ValueError: ``mean`` or ``std`` is no list of finite numbers, or a deviation is not above 0.
    """
    for name, values in (('mean', mean), ('std', std)):
        if values is None:
            continue
        numbers = isinstance(values, Sequence) and not isinstance(values, str)
        numbers = numbers and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and isfinite(v) for v in values
        )
        if not numbers or not values or (name == 'std' and min(values) <= 0):
            above = ' above 0' * (name == 'std')
            raise ValueError(
                f'data_preprocessor.{name} must be a list of numbers{above}, one a channel, got {values!r}: '
                f'write {name}=[{"58.4, 57.1, 57.4" if name == "std" else "123.7, 116.3, 103.5"}]'
            )


def check_number(
    name: str,
    value: Any,
    low: Optional[float] = None,
    high: Optional[float] = None,
    whole: bool = False,
) -> None:
    """Refuse what is not a number within bounds.

    Raises:
        ValueError: ``value`` is none, lies outside ``[low, high]``, or should be ``whole``.
    """
    number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not number or not (low is None or value >= low) or not (high is None or value <= high):
        kind = 'a whole number' if whole else 'a number'
        bounds = f' from {low}' * (low is not None) + f' to {high}' * (high is not None)
        raise ValueError(f'{name} must be {kind}{bounds}, got {value!r}')
