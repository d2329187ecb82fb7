"""Modules that were imported before the operators were there get them afterwards.

MMDetection writes ``try: from mmcv.ops import nms`` and goes on without. Its own ``tools/train.py``
imports such modules before it reads the config whose ``custom_imports`` imports ``mcl_mm``.
"""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ('mmcv', 'mmdet', 'mmpretrain')


def repair_early_imports() -> None:
    """Bind again each name that a loaded module tried, and failed, to import from ``mmcv.ops``."""
    if 'mmcv.ops' in sys.modules:
        return
    for name, module in list(sys.modules.items()):
        path = getattr(module, '__file__', None) or ''
        if name.partition('.')[0] not in PACKAGES or not path.endswith('.py'):
            continue
        for source, names in _guarded_imports(Path(path).read_text(encoding='utf-8')):
            operators = importlib.import_module(source)
            for alias in names:
                setattr(module, alias.asname or alias.name, getattr(operators, alias.name))


def _guarded_imports(text: str) -> Iterator[tuple[str, list[ast.alias]]]:
    """Each ``from mmcv.ops... import names`` that stands directly in a ``try`` of a module."""
    if 'mmcv.ops' not in text:
        return
    for guard in ast.parse(text).body:
        if not isinstance(guard, ast.Try):
            continue
        for statement in guard.body:
            source = getattr(statement, 'module', None) or ''
            if isinstance(statement, ast.ImportFrom) and source.split('.')[:2] == ['mmcv', 'ops']:
                yield source, statement.names
