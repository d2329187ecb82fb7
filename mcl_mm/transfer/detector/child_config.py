"""Changes to a config, written as a config that a person would write."""

import re
import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from mmengine.config import Config
from yapf.yapflib.yapf_api import FormatCode  # MMEngine writes configs by it, too

WIDTH = 100
STYLE = dict(based_on_style='pep8', column_limit=WIDTH, dedent_closing_brackets=True)
ABSENT = object()


class Code(str):
    """An expression, written into a config as it is."""


class Change(NamedTuple):
    """One setting in which a config differs from its base.

    Attributes:
        path (str): Where, such as ``'model.backbone.norm_eval'`` or, in a list,
            ``'model.neck.0.norm_cfg'``.
        value (Any): The setting: what a config can hold, or :class:`Code`.
        reason (str): Why, in words.
    """

    path: str
    value: Any
    reason: str


class ChildConfig(NamedTuple):
    """A config that inherits from another and changes some of its settings.

    Attributes:
        base (str): The other config: an absolute path, or a name such as ``'mmdet::...'``.
        held (Config): What is in it.
        changes (list[Change]): The changes, in the order they are to be written in.
    """

    base: str
    held: Config
    changes: list[Change]

    def load(self) -> Config:
        """What MMEngine makes of it."""
        return Config.fromstring(self.text(), '.py')

    def reasons(self) -> list[str]:
        """The changes in words, those of one reason together, each an item of a list."""
        settings = {}
        for change in self.changes:
            value = as_code(change.value)
            short = f'{change.path}={value}' if len(value) <= 50 else change.path
            settings.setdefault(change.reason, []).append(short)
        return [f'- {", ".join(alike(changed))}: {reason}' for reason, changed in settings.items()]

    def text(self, comment: Iterable[str] = (), base: Optional[str] = None) -> str:
        """The config as Python code.

        Args:
            comment (Iterable[str]): Paragraphs for the top of the file. Those that begin with a dash
                are wrapped as items of a list; indented ones stay as they are. Defaults to none.
            base (str, optional): Another way to write ``base``, such as a relative path. Defaults to
                None.
        """
        lines = [f'_base_ = {(base or self.base)!r}', '', *assignments(self.held, self.changes)]
        return '\n'.join([*comment_lines(comment), formatted(lines)])


def formatted(lines: Iterable[str]) -> str:
    """Lines of a config, none of them too wide for a screen."""
    code, _ = FormatCode('\n'.join(lines) + '\n', style_config=STYLE)
    return code


def collapsed(changes: Iterable[Change]) -> list[Change]:
    """Changes without those that a later one replaces: it sets the same, or the whole that they are in."""
    kept = {}
    for change in changes:
        for path in [path for path in kept if f'{path}.'.startswith(f'{change.path}.')]:
            del kept[path]
        kept[change.path] = change
    return list(kept.values())


def assignments(held: Config, changes: Iterable[Change]) -> list[str]:
    """Changes as lines of a config that inherits from one in which ``held`` is."""
    held, tree = dict(held.items()), {}
    for change in changes:
        *parents, last = change.path.split('.')
        node, old = tree, held
        for key in parents:
            node, old = node.setdefault(key, {}), item(old, key)
            if old is None:  # it cannot be merged with
                node['_delete_'] = True
        node[last] = replacing(item(old, last), change.value)
    return [
        f'{key} = {as_code(merged(settings, item(held, key), f"_base_.{key}"))}'
        for key, settings in tree.items()
    ]


def alike(settings: list[str]) -> list[str]:
    """Settings that differ by a number only, as one with ``*`` for the number."""
    starred = [re.sub(r'\.\d+\.', '.*.', setting) for setting in settings]
    return list(
        dict.fromkeys(
            star if starred.count(star) > 1 else setting for star, setting in zip(starred, settings)
        )
    )


def item(parent: Any, key: str) -> Any:
    """What is under ``key`` in a dict or list of a config, or ``ABSENT``."""
    if isinstance(parent, (list, tuple)):
        return parent[int(key)]
    return parent.get(key, ABSENT) if isinstance(parent, dict) else ABSENT


def replacing(old: Any, new: Any) -> Any:
    """``new`` such that nothing of ``old``, with which MMEngine merges it, stays."""
    return new if merges_cleanly(old, new) else dict(_delete_=True, **new)


def merges_cleanly(old: Any, new: Any) -> bool:
    """Whether MMEngine, merging ``new`` into ``old``, comes to ``new``: other than dicts replace."""
    if not isinstance(new, dict) or old is ABSENT:
        return True
    return (
        isinstance(old, dict)
        and set(old) <= set(new)
        and all(merges_cleanly(old[key], new[key]) for key in old)
    )


def merged(new: Any, old: Any, path: str) -> Any:
    """Settings of list items as a new list: MMEngine merges dicts, but replaces lists."""
    if type(new) is not dict:
        return new
    if isinstance(old, (list, tuple)):
        return [
            inside(new[str(n)], one, f'{path}[{n}]') if str(n) in new else Code(f'{path}[{n}]')
            for n, one in enumerate(old)
        ]
    return {key: merged(value, item(old, key), f'{path}.{key}') for key, value in new.items()}


def inside(new: Any, old: Any, path: str) -> Any:
    """Settings inside an item of a list, where MMEngine merges nothing."""
    if type(new) is not dict or new.get('_delete_') or not isinstance(old, dict):
        return {k: v for k, v in new.items() if k != '_delete_'} if isinstance(new, dict) else new
    return ItemOfBase(path, {k: inside(v, item(old, k), f'{path}.{k}') for k, v in new.items()})


class ItemOfBase(dict):
    """An item of a list in the base, or a part of one, with some settings replaced."""

    def __init__(self, path: str, settings: dict) -> None:
        super().__init__(settings)
        self.path = path


def comment_lines(paragraphs: Iterable[str]) -> list[str]:
    """Paragraphs as comment lines."""
    lines = []
    for paragraph in paragraphs:
        if paragraph.startswith(' ') or not paragraph:
            lines.append(f'# {paragraph}'.rstrip())
            continue
        indent = '  ' if paragraph.startswith('- ') else ''
        lines += textwrap.wrap(
            paragraph,
            WIDTH,
            initial_indent='# ',
            subsequent_indent=f'# {indent}',
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def as_code(value: Any) -> str:
    """A value of a config as Python code on one line."""
    if isinstance(value, dict):
        named = all(isinstance(key, str) and key.isidentifier() for key in value)
        entries = [
            f'{key}={as_code(v)}' if named else f'{key!r}: {as_code(v)}' for key, v in value.items()
        ]
        if isinstance(value, ItemOfBase):
            entries.insert(0, value.path)
        text = ', '.join(entries)
        return f'dict({text})' if named else f'{{{text}}}'
    if isinstance(value, (list, tuple)):
        text = ', '.join(map(as_code, value))
        if isinstance(value, list):
            return f'[{text}]'
        return f'({text},)' if len(value) == 1 else f'({text})'
    if isinstance(value, type):  # as configs of MMEngine's newer style have them
        return repr(f'{value.__module__}.{value.__qualname__}')
    return value if isinstance(value, Code) else repr(value)
