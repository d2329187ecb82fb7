"""What a benchmark has measured: medians, ranges, ratios, and a table of them."""

import statistics
from collections.abc import Sequence
from typing import Optional

from .timing import PARTS

# Key, what the table calls it, how to print it, and whether to compare it with the first config's.
ROWS = (
    ('multiply_adds', 'multiply-adds an image, G', '{:.4g}', True),
    ('data_rate', 'data alone, images/s a core', '{:.1f}', True),
    ('step_rate', 'step alone, images/s', '{:.3g}', True),
    ('end_to_end_rate', 'end to end, images/s', '{:.3g}', True),
    ('backbone_rate', 'bare backbone, images/s', '{:.3g}', False),
    ('achieved', "multiply-adds/s over the bare backbone's", '{:.2f}', False),
    ('peak_memory', 'peak memory, GiB', '{:.2f}', True),
    ('data_share', 'waiting for data, of end to end', '{:.1%}', False),
    *((f'{part}_share', f'{part}, of the step', '{:.1%}', False) for part in PARTS),
)


def summarise(rounds: Sequence[Sequence[dict]]) -> list[dict[str, dict]]:
    """Median and range over rounds.

    Args:
        rounds (Sequence[Sequence[dict]]): ``rounds[r][c]`` holds the values of candidate ``c``.

    Returns:
        list[dict]: Per candidate ``values`` and ``ratios`` (to the first candidate in the same round,
        where :data:`ROWS` wants them), by key ``dict(median=..., min=..., max=...)``, or None.
    """

    def spread(values: list) -> Optional[dict[str, float]]:
        if None in values:
            return None
        return dict(median=statistics.median(values), min=min(values), max=max(values))

    return [
        dict(
            values={key: spread([turn[index].get(key) for turn in rounds]) for key, *_ in ROWS},
            ratios={
                key: spread([turn[index][key] / turn[0][key] for turn in rounds])
                for key, _, _, compared in ROWS
                if compared and key in rounds[0][index]
            },
        )
        for index in range(len(rounds[0]))
    ]


def table(names: list[str], summaries: list[dict]) -> str:
    """A table in Markdown, a column a candidate."""

    def cell(spread: Optional[dict], pattern: str) -> str:
        if spread is None:
            return '-'
        median, low, high = (pattern.format(spread[key]) for key in ('median', 'min', 'max'))
        return median if low == high else f'{median} ({low} to {high})'

    rows = [['', *names], ['---'] * (1 + len(names))]
    for key, title, pattern, compared in ROWS:
        if all(s['values'][key] is None for s in summaries):
            continue
        rows.append([title, *(cell(s['values'][key], pattern) for s in summaries)])
        if compared and len(names) > 1:
            ratios = (cell(s['ratios'][key], '{:.2f}') for s in summaries)
            rows.append(['- times the first', *ratios])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)
