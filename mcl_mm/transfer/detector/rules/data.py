"""Rules about the data: the boxes are of classes that the detector knows. Data stay the user's."""

import json
import os
from collections.abc import Iterator
from itertools import chain, combinations, product
from typing import Any, Optional

from mmengine.config import Config
from mmengine.registry import DATASETS

from mcl_mm.config import type_name

from ..child_config import Change
from ..finding import line_of
from ..settings import dicts_in, scope_of
from .case import Case, Finding

# Larger annotations, such as those of COCO itself, are not read: the doctor takes seconds.
MAX_BYTES = 64 * 2**20
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def other_classes(case: Case) -> Optional[Finding]:
    """Annotations of classes that the data set does not know, so that no box would be left."""
    for _, dataset in data_sets(case.cfg, 'train_dataloader'):
        names, known = annotated_classes(dataset), known_classes(dataset, scope_of(case.cfg))
        if not names or not known or set(names) & set(known):
            continue
        text = (
            f'{annotations_of(dataset)} has boxes of {", ".join(map(repr, names[:5]))}, and the data set '
            f'knows none of these classes, only {", ".join(map(repr, known[:3]))}, ...: no box is left'
        )
        changes = [
            Change(f'{path}.metainfo', dict(classes=tuple(names)), '')
            for loader in LOADERS
            for path, _ in data_sets(case.cfg, loader)
        ]
        changes += [
            Change(f'{path}.{setting}', value, '')
            for path, part in dicts_in(case.cfg.get('model') or {}, 'model')
            for setting, value in for_classes(part, len(known), len(names))
        ]
        return Finding('other-classes', text, line_of(changes, case.cfg))
    return None


def for_classes(part: dict, known: int, count: int) -> Iterator[tuple[str, Any]]:
    """The settings of a part of a model that go by the number of classes, for another number.

    Args:
        part (dict): Its config.
        known (int): The number that it is set for.
        count (int): The other.
    """
    if part.get('num_classes') == known:
        yield 'num_classes', count
    # Of Mask2Former and MaskFormer; with stuff the classes are those of a panoptic task.
    if part.get('num_things_classes') == known and part.get('num_stuff_classes') == 0:
        yield 'num_things_classes', count
    weights = part.get('class_weight')
    if (
        isinstance(weights, (list, tuple)) and len(weights) == known + 1
    ):  # the last is that of no object
        yield 'class_weight', [weights[0]] * count + [weights[-1]]


def check_classes_known(cfg: Config) -> None:
    """Refuse a run whose boxes are all of unknown classes, before its data are built.

    Args:
        cfg (Config): Of the run.

    Raises:
        ValueError: They are; says which line names them.
    """
    finding = other_classes(Case(cfg, None))
    if finding:
        raise ValueError(f'{finding.text}. Fix: {finding.fix}')


def check_class_numbers(cfg: Config, evaluation: str) -> None:
    """Refuse a run whose files of labels number the classes differently.

    MMDetection numbers classes in the order in which a file lists them, and leaves out what it does not list.
    An evaluation may know more classes than the training, behind those; so may one of several training sets
    know more than another.

    Args:
        cfg (Config): Of the run.
        evaluation (str): The loader that it evaluates on, ``'val_dataloader'`` or ``'test_dataloader'``.

    Raises:
        ValueError: Class k of the training labels is another class in other training labels, or another
            or none in those of the evaluation.
    """
    trained = sorted(numbered_classes(cfg, 'train_dataloader'), key=lambda labels: len(labels[2]))
    tested = numbered_classes(cfg, evaluation)
    for (other, classes, learnt), (where, known, names) in chain(
        combinations(trained, 2), product(trained, tested)
    ):
        if classes == known and names[: len(learnt)] != learnt:
            number = next(k for k, name in enumerate(learnt) if names[k : k + 1] != [name])
            found = repr(names[number]) if number < len(names) else 'missing'
            raise ValueError(
                'MMDetection numbers classes in the order in which a file lists them: class '
                f'{number} is {learnt[number]!r} in {other}, and {found} in {where}. Give both files '
                'the same list of categories'
            )


def numbered_classes(cfg: Config, loader: str) -> Iterator[tuple[str, tuple[str, ...], list[str]]]:
    """Path, known classes and numbered classes of the data sets in a loader that can be read."""
    for _, dataset in data_sets(cfg, loader):
        known = known_classes(dataset, scope_of(cfg))
        names = [name for name in annotated_classes(dataset) if name in known]
        if names and type_name(dataset) != 'Objects365V1Dataset':  # sorts by id
            yield annotations_of(dataset), known, names


def data_sets(cfg: Config, loader: str) -> Iterator[tuple[str, dict]]:
    """Path and config of the data sets in COCO's format in a loader, inside of whatever wraps them."""
    for path, part in dicts_in((cfg.get(loader) or {}).get('dataset') or {}, f'{loader}.dataset'):
        if type_name(part).endswith('Dataset') and str(part.get('ann_file', '')).endswith('.json'):
            yield path, part


def annotations_of(dataset: dict) -> str:
    """Path of a data set's annotations."""
    return os.path.join(dataset.get('data_root') or '', dataset['ann_file'])


def annotated_classes(dataset: dict) -> list[str]:
    """Names of the categories in a file of annotations; none if it is not there, large or of another kind."""
    path = annotations_of(dataset)
    if not os.path.isfile(path) or os.path.getsize(path) > MAX_BYTES:
        return []
    try:
        with open(path) as file:
            return [category['name'] for category in json.load(file)['categories']]
    except (ValueError, LookupError, TypeError):
        return []


def known_classes(dataset: dict, scope: str) -> tuple[str, ...]:
    """The classes of a data set: those of its config, or of its kind."""
    given = (dataset.get('metainfo') or {}).get('classes')
    if given is None:
        with DATASETS.switch_scope_and_registry(scope) as registry:
            kind = registry.get(dataset['type'])
        given = getattr(kind, 'METAINFO', {}).get('classes')
    return (given,) if isinstance(given, str) else tuple(given or ())


RULES = (other_classes,)
