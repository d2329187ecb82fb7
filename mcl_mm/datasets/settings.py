"""What settings of data sets must be, and what to write where they are not."""

import os
from collections.abc import Sequence
from typing import Any, Optional


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


def check_strings(name: str, value: Any) -> None:
    """Refuse what is not a list of strings, a single string above all, whose letters would count.

    Raises:
        ValueError: ``value`` is none.
    """
    texts = value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else None
    if texts is None or not all(isinstance(text, str) for text in texts):
        wanted = [str(item) for item in texts] if texts else [str(value)]
        raise ValueError(f'{name} must be a list of strings, got {value!r}: write {name}={wanted}')


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
