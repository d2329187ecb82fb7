"""Rules about weights of images with N channels: the detector reads, scales and takes the same."""

import re
from collections.abc import Iterator
from typing import Any, Optional

from mcl_mm.config import find_parts, type_name
from mcl_mm.datasets.channels import FOR_RGB
from mcl_mm.datasets.depth import describe_range, read_value_range

from ..child_config import Change, Code, as_code
from ..finding import line_of
from ..settings import argument, dicts_in, scope_of
from .case import Case, Finding

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
READERS = ('LoadImageFromFile', 'LoadAnyImage')
PREPROCESSOR = 'ChannelsDetDataPreprocessor'
TOLERANCE = 0.01


def trained_channels(case: Case) -> Optional[int]:
    """How many channels the weights were trained on; None for RGB and where the file does not say."""
    trained = case.meta.get('input')
    return trained.get('channels') if isinstance(trained, dict) else None


def other_channels(case: Case) -> Optional[Finding]:
    """Images of other channels, or prepared otherwise, than the weights were trained with."""
    channels = trained_channels(case)
    if not channels or not case.loads('backbone.'):
        return None
    changes = [*network_changes(case, channels), *pipeline_changes(case, channels)]
    if not changes:
        return None
    trained = case.meta['input']
    ranges = ''.join(
        f', values from {describe_range(r)}' for r in trained.get('value_ranges') or ()
    )
    text = (
        f'the weights were trained on {channels} channels in the order of the files{ranges}, mean '
        f'{trained.get("mean")}, std {trained.get("std")}, and the detector does not read and scale its '
        f'images like that, or changes colours of RGB: {", ".join(change.path for change in changes)}'
    )
    reason = f'The images are those of pre-training: {channels} channels, as they are in the files.'
    changes = tuple(change._replace(reason=reason) for change in changes)
    return Finding('other-channels', text, line_of(changes, case.cfg), changes)


def network_changes(case: Case, channels: int) -> Iterator[Change]:
    """The backbone takes the channels, the data preprocessor has a mean and deviation for each."""
    if case.backbone and argument(case.backbone, 'in_channels', scope_of(case.cfg)) != channels:
        yield Change('model.backbone.in_channels', channels, '')
    trained, model = case.meta['input'], case.cfg.get('model') or {}
    ours = dict(model.get('data_preprocessor') or {})
    wanted = {key: trained[key] for key in ('mean', 'std') if trained.get(key)}
    swaps = ours.get('bgr_to_rgb') or ours.get('rgb_to_bgr')
    same = all(agree(value, ours.get(key)) for key, value in wanted.items())
    if same and not swaps and type_name(ours) == PREPROCESSOR:
        return
    kept = {k: v for k, v in ours.items() if k not in ('type', 'bgr_to_rgb', 'rgb_to_bgr')}
    yield Change('model.data_preprocessor', dict(kept, type=f'mcl_mm.{PREPROCESSOR}', **wanted), '')


def agree(trained: list[float], given: Any) -> bool:
    """Whether means or deviations are the same, but for rounding."""
    given = list(given or ())
    return len(trained) == len(given) and all(
        abs(x - y) <= TOLERANCE * max(abs(x), 1) for x, y in zip(trained, given)
    )


def pipeline_changes(case: Case, channels: int) -> Iterator[Change]:
    """All pipelines read the channels with the value range of the weights, and leave colours of RGB alone."""
    trained = [read_value_range(r, channels) for r in case.meta['input'].get('value_ranges') or ()]
    reader = dict(type='mcl_mm.LoadAnyImage', channels=channels)
    if trained:
        reader['value_range'] = [list(pair) for pair in trained[0]]

    def other(step: dict) -> bool:
        if type_name(step) not in READERS:
            return False
        same = type_name(step) == 'LoadAnyImage' and step.get('channels') == channels
        own = read_value_range(step.get('value_range'), channels) if same else None
        return not same or bool(trained and own not in trained)

    for loader in LOADERS:
        for path, part in dicts_in(case.cfg.get(loader) or {}, loader):
            steps = dict(enumerate(part.get('pipeline') or ()))
            kept = {n: step for n, step in steps.items() if not any(find_parts(step, *FOR_RGB))}
            replaced = {n: dict(reader) for n, step in kept.items() if other(step)}
            if len(kept) == len(steps):
                yield from (Change(f'{path}.pipeline.{n}', new, '') for n, new in replaced.items())
                continue
            base = re.sub(r'\.(\d+)(?=\.)', r'[\1]', f'_base_.{path}.pipeline')
            items = [replaced.get(n, Code(f'{base}[{n}]')) for n in kept]
            yield Change(f'{path}.pipeline', Code(as_code(items)), '')


RULES = (other_channels,)
