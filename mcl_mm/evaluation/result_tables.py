"""Tables of results: the finished runs of ledgers, sorted into rows."""

import statistics
from collections import defaultdict
from typing import NamedTuple, Optional

from .metrics import headline, spread
from .starts import RANDOM


class Row(NamedTuple):
    """Runs of one detector that differ in nothing but seed and list of labels.

    Attributes:
        labels (int): Labelled images.
        start (str): What they started from.
        spent (float, optional): Multiply-adds of the pre-training; 0 for random weights, None where the
            ledger does not know.
        runs (list[dict]): Entries of the fine-tunings.
        before (list[dict]): Entries of their pre-trainings that the ledger has.
    """

    labels: int
    start: str
    spent: Optional[float]
    runs: list[dict]
    before: list[dict]

    def values(self, metric: str) -> list[float]:
        """A metric of all runs; one that was not logged is 0, for nothing was detected."""
        return [run['metrics'].get(metric, 0.0) for run in self.runs]


class Group(NamedTuple):
    """Runs of one detector, evaluated on the same images.

    Attributes:
        detector (str): Its name.
        val (dict): The images it was evaluated on: ``name``, ``images``, ``digest``.
        rows (list[Row]): Fewest labels first, then least compute.
        metrics (list[str]): The ones to show.
    """

    detector: str
    val: dict
    rows: list[Row]
    metrics: list[str]


def group(entries: list[dict]) -> list[Group]:
    """Sort the entries of ledgers into tables.

    Args:
        entries (list[dict]): Of all ledgers, each identity once.
    """
    pretrainings = {e['identity']: e for e in entries if e['kind'] == 'pretrain'}
    tables = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        if entry['kind'] != 'finetune':
            continue
        origin = entry['origin']
        before = pretrainings.get(origin.get('pretraining'))
        # Runs of a start count together whatever their seeds, which make weights of their own.
        made_by = (
            (before['config'], before['train'].get('digest'))
            if before
            else origin.get('weights', '')
        )
        key = entry['train']['images'], entry['start'], made_by, entry['images_seen']
        tables[entry['detector'], entry['config'], entry['val']['digest']][key].append(entry)
    groups = []
    for (detector, *_), found in sorted(tables.items()):
        rows = name_sets([make_row(runs, pretrainings) for runs in found.values()])
        rows.sort(key=lambda row: (row.labels, row.spent or 0, row.start != RANDOM, row.start))
        runs = [run for row in rows for run in row.runs]
        names = list(dict.fromkeys(name for run in runs for name in run['metrics']))
        shown = [n for n in names if n in headline(names) or n.endswith('_50')]
        groups.append(Group(detector, runs[0]['val'], rows, shown))
    return groups


def make_row(runs: list[dict], pretrainings: dict[str, dict]) -> Row:
    """One row of a table from its runs."""
    origins = [run['origin'] for run in runs]
    before = [
        pretrainings[origin['pretraining']]
        for origin in origins
        if origin.get('pretraining') in pretrainings
    ]
    spent = None
    if before:
        spent = before[0]['multiply_adds']
    elif not any('weights' in origin or 'pretraining' in origin for origin in origins):
        spent = 0.0
    return Row(runs[0]['train']['images'], runs[0]['start'], spent, runs, before)


def name_sets(rows: list[Row]) -> list[Row]:
    """Rows whose start says on which images it was pre-trained, where one name stands for several sets."""
    sets = defaultdict(set)
    for row in rows:
        sets[row.start].update(one['train'].get('digest') for one in row.before)
    return [
        row._replace(start=f'{row.start}, {row.before[0]["train"].get("name")}')
        if row.before and len(sets[row.start]) > 1
        else row
        for row in rows
    ]


def table(group: Group) -> str:
    """The results of one detector in Markdown."""
    titles = ['labelled images', 'start', 'runs', *group.metrics]
    titles += ['pre-training: images seen', 'T multiply-adds', 'minutes', 'fine-tuning: minutes']
    lines = [titles, ['---'] * len(titles)]
    for row in group.rows:
        cells = [f'{row.labels:,}', row.start, str(len(row.runs))]
        cells += [spread(row.values(metric)) for metric in group.metrics]
        cells += [f'{row.before[0]["images_seen"]:,}' if row.before else '']
        cells += ['' if row.spent is None else f'{row.spent / 1e12:.3g}']
        cells += [minutes(row.before), minutes(row.runs)]
        lines.append(cells)
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def minutes(entries: list[dict]) -> str:
    """The mean of what runs took; empty if no run says."""
    known = [entry['minutes'] for entry in entries if entry['minutes'] is not None]
    return f'{statistics.mean(known):.1f}' if known else ''
