"""Small questions to configs."""

from collections.abc import Mapping
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
