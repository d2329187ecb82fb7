"""Small helpers on configs, and the recipes that come with the package."""

import ast
import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import get_installed_path

RECIPES = Path(__file__).parent / '.mim' / 'configs'
# MMEngine opens `_base_ = 'mcl_mm::...'` of packages in this table. It has no function to enter one.
MODULE2PACKAGE.setdefault('mcl_mm', 'mcl_mm')


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


def recipes() -> Iterator[str]:
    """Names of the recipes that come with the package, such as ``'quickstart/pretrain'``, sorted."""
    for path in sorted(RECIPES.rglob('*.py')):
        name = path.relative_to(RECIPES)
        if '_base_' not in name.parts:
            yield name.with_suffix('').as_posix()


def describe(recipe: str) -> str:
    """The first line of a recipe's file: what it is for."""
    with open(RECIPES / f'{recipe}.py', encoding='utf-8') as file:
        return file.readline().lstrip('# ').strip()


def portable_text(path: str) -> str:
    """The text of a config, which means the same in any folder: its bases are absolute paths.

    Args:
        path (str): The config.
    """
    text = Path(path).read_bytes()
    bases = [
        node
        for statement in ast.parse(text).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == '_base_'
        for node in ast.walk(statement.value)
        if isinstance(node, ast.Constant) and '::' not in node.value
    ]
    lines = text.splitlines(keepends=True)
    for node in reversed(bases):  # in bytes, as Python counts columns
        absolute = os.path.normpath(Path(path).resolve().parent / node.value)
        line = lines[node.lineno - 1]
        changed = line[: node.col_offset] + repr(absolute).encode() + line[node.end_col_offset :]
        lines[node.lineno - 1] = changed
    return b''.join(lines).decode()


def find_config(name_or_path: str) -> str:
    """The file of a config.

    Args:
        name_or_path (str): A path; the name of a recipe of this package, with or without its folder,
            ``configs/`` and ``.py``; or one of another package, as
            ``'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'``.

    Returns:
        str: Its path.

    Raises:
        FileNotFoundError: There is none.
        ValueError: Several recipes have the name.
    """
    if os.path.isfile(name_or_path):
        return name_or_path
    if '::' in name_or_path:
        return find_in_package(name_or_path)
    wanted = name_or_path.removeprefix('configs/').removesuffix('.py')
    names = list(recipes())
    found = [name for name in names if wanted in (name, name.rpartition('/')[2])]
    exact = [name for name in found if name == wanted]
    if len(exact or found) == 1:
        return str(RECIPES / f'{(exact or found)[0]}.py')
    if found:
        raise ValueError(
            f'{name_or_path} may be any of {", ".join(found)}: give the folder as well'
        )
    near = difflib.get_close_matches(
        wanted, [*names, *(name.rpartition('/')[2] for name in names)], 1
    )
    hint = f'Did you mean {near[0]}? ' if near else ''
    raise FileNotFoundError(
        f'no config at {name_or_path}, and no recipe of that name. {hint}`mcl-mm configs` lists the recipes'
    )


def find_in_package(name: str) -> str:
    """The file of ``'package::folder/config.py'``.

    Raises:
        FileNotFoundError: There is none, or no such package.
        ValueError: The name is not of this form.
    """
    module, _, config = name.partition('::')  # MMEngine's own parser knows letters and digits only
    if '/' not in config:
        raise ValueError(
            f'{name}: specify the package name, the folder and the file, as '
            "'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'"
        )
    if module not in MODULE2PACKAGE:
        raise ValueError(f'{name}: MMEngine does not support to load {module} configs')
    package = MODULE2PACKAGE[module]
    try:
        path = Path(get_installed_path(package), '.mim', 'configs', config)
    except ImportError:
        raise FileNotFoundError(f'{name}: {package} is not installed') from None
    if not path.is_file():
        raise FileNotFoundError(f'{package} has no config {config}')
    return str(path)
