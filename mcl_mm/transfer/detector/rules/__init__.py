"""The rule book: what in a detector's config spoils its pre-trained weights, and the cure.

A rule is a function that takes a :class:`Case` and returns a :class:`Finding` or None. The doctor prints
what rules find; ``adapt`` makes the changes that findings carry. To add one: write it in the file of its
subject (a new subject: a new file, listed below), put it into ``RULES`` there, give it a row in
``docs/doctor.md`` and a case in ``tests/transfer/detector/rules/test_rules.py``.
"""

from . import backbone, box_head, channels, data, inputs, pyramid, schedule, second_source
from .case import Case, Finding

RULES = (
    *backbone.RULES,
    *inputs.RULES,
    *channels.RULES,
    *pyramid.RULES,
    *box_head.RULES,
    *second_source.RULES,
    *data.RULES,
    *schedule.RULES,
)

__all__ = ['RULES', 'Case', 'Finding', 'find']


def find(case: Case) -> list[Finding]:
    """What all rules find, in the order of the book."""
    return [finding for rule in RULES if (finding := rule(case))]
