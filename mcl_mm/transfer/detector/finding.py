"""What is found about a detector and its weights, and what a change of its config is."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

from mmengine.config import Config

from .child_config import Change, assignments


class Finding(NamedTuple):
    """Something about a detector and its weights that a user should know.

    Attributes:
        id (str): Names the kind of finding, always the same.
        text (str): What it is and what it costs.
        fix (str): What to do: where that is possible, lines of a config that inherits from the one
            examined, parted by semicolons.
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


def curable(kind: str, text: str, settings: dict[str, Any], cfg: Config, note: str = '') -> Finding:
    """A finding that changes of the config cure.

    Args:
        kind (str): Its id.
        text (str): What it is and what it costs.
        settings (dict[str, Any]): What to set: paths such as ``'model.backbone.norm_eval'`` to values.
        cfg (Config): The config.
        note (str): To stand behind the line that sets them. Defaults to nothing.
    """
    reason = text[0].upper() + text[1:].rstrip('.') + '.'
    changes = tuple(Change(path, value, reason) for path, value in settings.items())
    return Finding(kind, text, line_of(changes, cfg) + note, changes)


def line_of(changes: Iterable[Change], cfg: Optional[Config] = None) -> str:
    """Changes as lines for a config that inherits from another, parted by semicolons.

    Args:
        changes (Iterable[Change]): The changes.
        cfg (Config, optional): The other. Defaults to None: it has nothing that is in the way.
    """
    return '; '.join(assignments(cfg or Config(), changes))
