"""Small questions to configs."""

from collections.abc import Iterator, Mapping
from typing import Any


def type_name(part: Any) -> str:
    """The class a config names, without its registry: ``'MCL'`` for ``dict(type='mcl_mm.MCL')``.

    Args:
        part (Any): A dict with ``type``, or a type itself; either way a string or a class.

    Returns:
        str: Empty for a dict without ``type``.
    """
    kind = (part.get('type') or '') if isinstance(part, Mapping) else part
    return getattr(kind, '__name__', str(kind)).split('.')[-1]


def find_parts(part: Any, *names: str) -> Iterator[Mapping]:
    """The dicts anywhere in a config whose type is one of ``names``, outer ones first.

    Args:
        part (Any): A config, or a part of one.
        *names (str): Of classes, see :func:`type_name`.
    """
    if isinstance(part, Mapping):
        if type_name(part) in names:
            yield part
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for value in part:
            yield from find_parts(value, *names)
