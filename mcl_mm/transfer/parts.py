"""Parts of a network, by the names of its weights."""

import re
from collections import Counter
from collections.abc import Iterable


def count_table(columns: dict[str, Iterable[str]]) -> str:
    """How many of each column's names are in each part of a model, as text."""
    counts = {title: Counter(map(part_of, names)) for title, names in columns.items()}
    lines = [f'{"part":40}' + ''.join(f'{title:>12}' for title in counts)]
    for part in sorted(set().union(*counts.values())):
        lines.append(f'{part:40}' + ''.join(f'{count[part]:>12}' for count in counts.values()))
    return '\n'.join(lines)


def part_of(key: str) -> str:
    """The part of a model a name is in.

    >>> part_of('neck.fpn_convs.0.bn.weight')
    'neck.fpn_convs'
    """
    if re.match(r'backbone\.(conv1|bn1|gn1|stem|patch_embed|downsample_layers\.0)\.', key):
        return 'backbone.stem'
    stage = re.match(r'backbone\.(stages|downsample_layers)\.\d+', key)
    if stage:
        return stage[0]
    parts = [name for name in key.split('.')[:-1] if not name.isdigit()]
    depth = 3 if parts[:1] == ['roi_head'] else 2
    return '.'.join(parts[:depth]) or key
