"""Small helpers on configs, and the recipes that come with the package."""

import ast
import contextlib
import difflib
import os
import traceback
from collections.abc import Iterator, Mapping
from errno import EACCES, EISDIR, ENOENT, ENOTDIR
from pathlib import Path
from typing import Any, Optional

from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.utils import get_installed_path

RECIPES = Path(__file__).parent / '.mim' / 'configs'
# MMEngine opens `_base_ = 'mcl_mm::...'` of packages in this table. It has no function to enter one.
MODULE2PACKAGE.setdefault('mcl_mm', 'mcl_mm')
# What MMEngine and PyTorch raise while they build what a config says.
UNBUILDABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
)
# Functions of MMEngine's loops. What fails inside of them has been built.
LOOPS = ('run_iter', 'run_epoch')


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


def read_config(path: str, options: Optional[Mapping[str, Any]] = None) -> Config:
    """Open the config of a model, and put settings of a command line into it. It is code, and runs.

    Args:
        path (str): Its file.
        options (Mapping[str, Any], optional): See :func:`override`. Defaults to None.

    Raises:
        OSError, ValueError: It cannot be opened, has no model, or the settings have no place in it.
    """
    with opening(path):
        cfg = Config.fromfile(path)
    override(cfg, options)
    check_model(cfg, path)
    # MMEngine marks all that has a type in a _base_ of another package, and hands the mark to functions.
    for loader in find_loaders(cfg):
        for name in ('collate_fn', 'worker_init_fn'):
            if isinstance(loader.get(name), Mapping):
                loader[name].pop('_scope_', None)
    return cfg


def find_loaders(cfg: Config) -> Iterator[Mapping]:
    """The data loaders of a config that are there."""
    for stage in ('train', 'val', 'test'):
        loader = cfg.get(f'{stage}_dataloader')
        if isinstance(loader, Mapping):
            yield loader


@contextlib.contextmanager
def opening(path: str) -> Iterator[None]:
    """Make one sentence of whatever opening a config raises.

    Args:
        path (str): Its file.

    Raises:
        OSError, ValueError: Names the file, which may be a base of it, and the line if that is known.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # the code in it raises what it likes
        place, line = path, getattr(error, 'lineno', None)
        for frame, number in traceback.walk_tb(error.__traceback__):
            code = frame.f_code
            if code.co_name == '_file2dict':  # MMEngine's, for a config and its bases, one by one
                place = frame.f_locals.get('filename') or place
            elif code.co_filename == place:  # the code of one of them
                line = number
        kind = OSError if isinstance(error, OSError) else ValueError
        where = f'{place}, line {line},' if line else place
        raise kind(f'{where} cannot be opened as a config: {short(error)}') from error


@contextlib.contextmanager
def building(config: str) -> Iterator[None]:
    """Make one sentence of what libraries raise on settings that do not fit.

    Args:
        config (str): Its file, for the message.

    Raises:
        OSError: Names the file that is not there.
        ValueError: Names the setting as far as the library does, and the line of code that gave up.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR, EISDIR, EACCES) or not error.filename:
            raise  # it says in its own words what to do
        raise type(error)(
            f'{config} needs {error.filename}: {error.strerror}. Set the path that leads there, such as '
            'data_root or ann_file of a data set, in the config or by --cfg-options'
        ) from error
    except UNBUILDABLE as error:
        frames = traceback.extract_tb(error.__traceback__)
        if any(frame.name in LOOPS for frame in frames):
            raise
        place = frames[-1]
        raise ValueError(
            f'{config} cannot be built with these settings and --cfg-options: {short(error)} '
            f'({place.filename}, line {place.lineno})'
        ) from error


def short(error: BaseException) -> str:
    """The kind of an error and what it says, in one line."""
    said = ' '.join(str(error.args[0] if len(error.args) == 1 else error).split())
    return f'{type(error).__name__}: {said if len(said) <= 300 else f"{said[:300]} ..."}'


def check_model(cfg: Config, path: str) -> None:
    """Refuse a config without a model.

    Raises:
        ValueError: It has none, or something else by that name.
    """
    if not isinstance(cfg.get('model'), Mapping):
        raise ValueError(
            f"{path} has no model: a config needs model=dict(type=...), its own or its _base_'s"
        )


def override(cfg: Config, options: Optional[Mapping[str, Any]]) -> None:
    """Put settings of a command line into a config.

    Args:
        cfg (Config): Changed in place.
        options (Mapping[str, Any], optional): As ``{'a.b': value}``. Defaults to None.

    Raises:
        ValueError: A key has no place, or is nearly one that is there; a slip of the pen would change
            nothing.
    """
    for key, value in (options or {}).items():
        part = cfg
        if not all(key.split('.')):
            raise ValueError(f'{key!r} is no setting: write names with a dot between them')
        for name in key.split('.'):
            near = difflib.get_close_matches(name, list(part), 1, 0.9) if name not in part else []
            if near:
                raise ValueError(f'{key}: {name} is no setting here. Did you mean {near[0]}?')
            part = part.get(name)
            if not isinstance(part, Mapping):
                break
        try:
            cfg.merge_from_dict({key: value})
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(
                f'{key}={value} has no place in {cfg.filename}: only a dict has settings inside, and items '
                'of a list are named by their number, as custom_hooks.0.priority'
            ) from error


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
