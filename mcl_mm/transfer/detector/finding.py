"""What is found about a detector and its weights, and what a change of its config is."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from .child_config import Change, as_code


class Finding(NamedTuple):
    """Something about a detector and its weights that a user should know.

    Attributes:
        id (str): Names the kind of finding, always the same.
        text (str): What it is and what it costs.
        fix (str): What to do, as lines of a config or arguments of a command where that is possible;
            ``...`` stands for what is there.
        changes (tuple[Change, ...]): What cures it, for :mod:`adapt`. Empty where the choice is the
            user's, as it is of schedules.
    """

    id: str
    text: str
    fix: str
    changes: tuple[Change, ...] = ()

    def to_dict(self) -> dict[str, str]:
        """For ``json.dumps``: without the changes, which the fix says."""
        return dict(id=self.id, text=self.text, fix=self.fix)


def curable(kind: str, text: str, settings: dict[str, Any], fix: str = '') -> Finding:
    """A finding that changes of the config cure.

    Args:
        kind (str): Its id.
        text (str): What it is and what it costs.
        settings (dict[str, Any]): What to set: paths such as ``'model.backbone.norm_eval'`` to values.
        fix (str): The same in words. Defaults to the line that sets them.
    """
    reason = text[0].upper() + text[1:].rstrip('.') + '.'
    changes = tuple(Change(path, value, reason) for path, value in settings.items())
    return Finding(kind, text, fix or line_of(changes), changes)


def line_of(changes: Iterable[Change]) -> str:
    """Changes as a line for a config; those inside lists, which a config cannot reach, as arguments."""
    tree, arguments = {}, []
    for change in changes:
        *parents, last = change.path.split('.')
        if any(key.isdigit() for key in (*parents, last)):
            arguments += [f'{p}={v}' for p, v in leaves(change.path, change.value)]
            continue
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = change.value
    lines = [f'{key} = {as_code(value)}' for key, value in tree.items()]
    if arguments:
        lines.append(f'--cfg-options {" ".join(arguments)}')
    return '; '.join(lines)


def leaves(path: str, value: Any) -> Iterable[tuple[str, Any]]:
    """Settings of one change as ``--cfg-options`` takes them: one value a path."""
    if not isinstance(value, dict):
        text = str(value) if not isinstance(value, (list, tuple)) else as_code(value)
        return [(path, text.replace(' ', ''))]
    return [leaf for key, entry in value.items() for leaf in leaves(f'{path}.{key}', entry)]
