"""Rules about images: they come in as they did in pre-training."""

from typing import Optional

from mcl_mm.config import find_parts, type_name
from mcl_mm.datasets.depth import read_value_range

from ..child_config import Change, as_code
from ..finding import line_of
from ..settings import dicts_in
from .case import Case, Finding, curable

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
TOLERANCE = 0.01  # of a mean or deviation: published ones are rounded


def other_input(case: Case) -> Optional[Finding]:
    """Images in another colour order or scale than the weights were trained with."""
    trained = case.meta.get('input')
    ours = (case.cfg.get('model') or {}).get('data_preprocessor') or case.cfg.get(
        'data_preprocessor'
    )
    step = next(find_parts(case.cfg.get('train_dataloader') or {}, 'Normalize'), None)
    scaling = (
        step or ours
    )  # where a step of the pipeline scales, the preprocessor is not to do it again
    if not isinstance(trained, dict) or not scaling or not case.loads('backbone.'):
        return None
    if trained.get('channels'):  # a rule of its own
        return None
    # MMCV reads images as BGR.
    swaps = step.get('to_rgb', True) if step else ours.get('bgr_to_rgb') or ours.get('rgb_to_bgr')
    order = 'RGB' if swaps else 'BGR'
    given = dict(channel_order=order, mean=scaling.get('mean'), std=scaling.get('std'))
    differ = [key for key, value in given.items() if not same(trained.get(key), value)]
    if not differ:
        return None
    described = ' / '.join(
        f'{d.get("channel_order")}, mean {d.get("mean")}, std {d.get("std")}'
        for d in (trained, given)
    )
    text = f'the weights were trained on other input than they get here: {described}'
    if step:
        wanted = {key: trained[key] for key in ('mean', 'std') if trained.get(key)}
        wanted['to_rgb'] = trained.get('channel_order') == 'RGB'
        step = as_code(dict(step, **wanted))
        return Finding('other-input', text, f'make the step Normalize of every pipeline {step}')
    settings = {
        f'model.data_preprocessor.{name}': value
        for key, name, value in (
            ('channel_order', 'bgr_to_rgb', trained.get('channel_order') == 'RGB'),
            ('mean', 'mean', trained.get('mean')),
            ('std', 'std', trained.get('std')),
        )
        if key in differ
    }
    return curable('other-input', text, settings, case.cfg)


def same(trained: object, given: object) -> bool:
    """Whether two colour orders, means or deviations agree; what a file does not tell does."""
    if isinstance(trained, str):
        return trained == given
    if not isinstance(trained, (list, tuple)):
        return True
    return (
        given is not None
        and len(trained) == len(given)
        and all(abs(x - y) <= TOLERANCE * max(abs(x), 1) for x, y in zip(trained, given))
    )


def other_value_range(case: Case) -> Optional[Finding]:
    """Values of more than 8 bits that become black and white elsewhere than in pre-training."""
    trained = case.meta.get('input')
    trained = trained if isinstance(trained, dict) and not trained.get('channels') else {}
    trained = trained.get('value_ranges')
    loaders = [key for key in LOADERS if case.cfg.get(key)]
    if not trained or not case.loads('backbone.'):
        return None
    wanted = {tuple(map(float, pair)) for pair in trained}
    differ = [key for key in loaders if not ranges_in(case.cfg[key]) & wanted]
    if not differ:
        return None
    text = (
        f'the weights were trained on values of more than 8 bits, with a range that {", ".join(differ)} '
        f'of the detector {"do" if len(differ) > 1 else "does"} not use'
    )
    first, *others = map(list, trained)
    loader = dict(type='mcl_mm.LoadAnyImage', value_range=first)
    changes = [
        Change(path, dict(loader), '')
        for key in differ
        for path, part in dicts_in(case.cfg[key], key)
        if type_name(part) in ('LoadImageFromFile', 'LoadAnyImage')
    ]
    note = ''.join(f'  # or value_range={other}' for other in others)
    return Finding('other-value-range', text, line_of(changes, case.cfg) + note)


def ranges_in(loader: dict) -> set[tuple[float, float]]:
    """The value ranges by which a data loader's pipeline reads images.

    Raises:
        OSError, ValueError: A file of one cannot be read.
    """
    ranges = [part.get('value_range') for part in find_parts(loader, 'LoadAnyImage')]
    return {read_value_range(found) for found in ranges if found is not None}


RULES = (other_input, other_value_range)
