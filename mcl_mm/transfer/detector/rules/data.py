"""Rules about the data: the boxes are of classes that the detector knows. Data stay the user's."""

import json
import os
from collections.abc import Iterator
from itertools import zip_longest
from typing import Optional

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
            Change(f'{path}.num_classes', len(names), '')
            for path, part in dicts_in(case.cfg.get('model') or {}, 'model')
            if part.get('num_classes') == len(known)
        ]
        return Finding('other-classes', text, line_of(changes, case.cfg))
    return None


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


def check_class_numbers(cfg: Config) -> None:
    """Refuse a run whose files of labels number the classes differently.

    MMDetection numbers classes in the order in which a file lists them, and leaves out what it does not list.

    Args:
        cfg (Config): Of the run.

    Raises:
        ValueError: Class k of the training labels is another class in the labels of an evaluation.
    """
    scope, first = scope_of(cfg), None
    for loader in LOADERS:
        for _, dataset in data_sets(cfg, loader):
            known = known_classes(dataset, scope)
            names = [name for name in annotated_classes(dataset) if name in known]
            if not names:
                continue
            first = first or (annotations_of(dataset), names)
            if names != first[1]:
                number, (one, other) = next(
                    (k, pair)
                    for k, pair in enumerate(zip_longest(first[1], names))
                    if pair[0] != pair[1]
                )
                raise ValueError(
                    f'MMDetection numbers classes in the order in which a file lists them: class {number} is '
                    f'{one!r} in {first[0]}, and {other!r} in {annotations_of(dataset)}. Give all files the '
                    'same list of categories'
                )


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
