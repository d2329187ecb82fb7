"""Configs are opened, and what they say is built; whatever goes wrong ends in one sentence."""

import contextlib
import difflib
import inspect
import traceback
from collections.abc import Iterator, Mapping
from errno import EACCES, EISDIR, ENOENT, ENOTDIR
from typing import Any, Optional

from mmengine.config import Config
from mmengine.runner import Runner

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
# Settings of a run in MMDetection 2 that version 3 has others for.
OF_VERSION_2 = ('data', 'optimizer', 'optimizer_config', 'lr_config', 'runner', 'total_epochs')
# What a run reads of a config, beside the arguments of MMEngine's Runner. Other names are a file's own.
READ = {
    *inspect.signature(Runner).parameters,
    *('activation_checkpointing', 'compile', 'find_unused_parameters', 'model_wrapper_cfg'),
    *('sync_bn', 'sync_bn_group', 'efficient_conv_bn_eval', 'channels', 'custom_imports'),
    *('tta_model', 'tta_pipeline'),
}
# Functions of MMEngine's loops. What fails inside of them has been built.
LOOPS = ('run_iter', 'run_epoch')


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
        if isinstance(error, RecursionError):
            reason = '_base_ leads back to the same file'
        elif '_get_package_and_cfg_path' in str(error):  # MMEngine names its function to the user
            reason = (
                "MMEngine wants a folder after the '::' of a _base_. Write 'PACKAGE::_base_/../NAME.py' for "
                'a config at the top, or its absolute path'
            )
        else:
            reason = short(error)
        raise kind(f'{where} cannot be opened as a config: {reason}') from error


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
    """Refuse a config without a model, and one of OpenMMLab's older libraries.

    Raises:
        ValueError: It has no model, or something else by that name; or settings of MMDetection 2.
    """
    old = [name for name in OF_VERSION_2 if name in cfg]
    if len(old) > 1 and 'train_dataloader' not in cfg:
        raise ValueError(
            f'{path} is written for MMDetection 2: it has {", ".join(old)}. Take the config of that name '
            "from MMDetection 3, or follow MMDetection's page on migrating configs"
        )
    if not isinstance(cfg.get('model'), Mapping):
        raise ValueError(
            f"{path} has no model: a config needs model=dict(type=...), its own or its _base_'s"
        )


def paths_of(part: Any, name: str, path: str = '') -> Iterator[str]:
    """Where settings that a run reads have a name, such as ``'train_cfg.max_iters'`` for ``max_iters``."""
    for key, value in part.items():
        if path or key in READ:
            if key == name and path:
                yield f'{path}{key}'
            if isinstance(value, Mapping):
                yield from paths_of(value, name, f'{path}{key}.')


def override(cfg: Config, options: Optional[Mapping[str, Any]]) -> None:
    """Put settings of a command line into a config.

    Args:
        cfg (Config): Changed in place.
        options (Mapping[str, Any], optional): As ``{'a.b': value}``. Defaults to None.

    Raises:
        ValueError: A key has no place, or is nearly one that is there, or no run reads it: it would change
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
        first, last = key.split('.')[0], key.split('.')[-1]
        # Code of the user's own may read anything.
        if first not in READ and first not in OF_VERSION_2 and not cfg.get('custom_imports'):
            places = list(paths_of(cfg, last))[:3]
            raise ValueError(
                f'{key}: no run reads {first}, so this would change nothing.'
                + f' Set {" or ".join(places)}' * bool(places)
                + f' Change {first} in a copy of {cfg.filename}' * (not places and first in cfg)
            )
        try:
            cfg.merge_from_dict({key: value})
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(
                f'{key}={value} has no place in {cfg.filename}: only a dict has settings inside, and items '
                'of a list are named by their number, as custom_hooks.0.priority'
            ) from error
