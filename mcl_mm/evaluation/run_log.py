"""What a run has logged."""

import json
import re
import statistics
from collections import defaultdict
from pathlib import Path

TIMES = {'time', 'data_time'}  # every line of an evaluation has them


def read_scalars(run: Path) -> list[dict]:
    """What MMEngine logged in a work directory, as if the run had never been interrupted.

    Every start leaves a file. What a later one logged replaces what earlier ones did from the
    iteration on at which it begins.

    Args:
        run (Path): The work directory.

    Returns:
        list[dict]: Lines of scalars, each with its ``step``.

    Raises:
        FileNotFoundError: Nothing was logged there, or by another program to TensorBoard alone.
    """
    scalars = []
    for path in sorted(run.glob('*/vis_data/scalars.json')):
        lines = []
        for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
            try:
                found = json.loads(line)
            except json.JSONDecodeError:  # the last line of a run that was killed
                continue
            found = found if isinstance(found, dict) else {}
            numbers = {k: v for k, v in found.items() if isinstance(v, (int, float))}
            if 'step' in numbers:
                lines.append(numbers)
        if lines:
            scalars = [s for s in scalars if s['step'] < lines[0]['step']] + lines
    if not scalars:
        elsewhere = any(run.glob('*/vis_data/events.out.tfevents*'))
        raise FileNotFoundError(
            f'{run} has logged to TensorBoard alone: start it by `mcl-mm train`, or add '
            "dict(type='LocalVisBackend') to visualizer.vis_backends"
            if elsewhere
            else f'no */vis_data/scalars.json with values in {run}'
        )
    for line in scalars:
        if line.get('time'):
            line['data_share'] = line.get('data_time', 0) / line['time']
    return scalars


def curves(scalars: list[dict], name: str) -> dict[str, tuple[list, list]]:
    """Steps and values of a scalar: one curve named '', or one per level, the mean of its sides."""
    pattern = re.compile(rf'{name}_(?:[qk]_)?level_(\d+)')
    found = defaultdict(lambda: ([], []))
    for line in scalars:
        if name in line:
            levels = {'': [line[name]]}
        else:
            levels = defaultdict(list)
            for key, value in line.items():
                if match := pattern.fullmatch(key):
                    levels[match[1]].append(value)
        for level, values in levels.items():
            found[level][0].append(line['step'])
            found[level][1].append(sum(values) / len(values))
    return dict(sorted(found.items()))


def last_evaluation(scalars: list[dict]) -> dict[str, float]:
    """The metrics of the last evaluation, as their evaluator logged them: ``coco/bbox_mAP`` and so on.

    They are empty where nothing was detected: COCO's evaluator logs its times alone then.

    Raises:
        RuntimeError: Nothing was evaluated.
    """
    evaluations = [line for line in scalars if 'loss' not in line and not TIMES.isdisjoint(line)]
    if not evaluations:
        raise RuntimeError('nothing was evaluated: the config needs a val_evaluator that runs')
    return {
        name: value
        for name, value in evaluations[-1].items()
        if name not in {'step', 'data_share', *TIMES} and isinstance(value, (int, float))
    }


def images_per_second(scalars: list[dict]) -> dict[str, float]:
    """The run's typical rate: the median of its lines."""
    rates = [line['images_per_second'] for line in scalars if 'images_per_second' in line]
    return dict(images_per_second=statistics.median(rates)) if rates else {}
