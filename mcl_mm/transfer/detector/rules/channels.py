"""Rules about weights of images with N channels: the detector reads, scales and takes the same."""

from collections.abc import Iterator
from typing import Any, Optional

from mcl_mm.config import find_parts, type_name
from mcl_mm.datasets.channels import FOR_RGB
from mcl_mm.datasets.depth import describe_range, read_value_range

from ..child_config import Change
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
    changes = [*network_changes(case, channels), *reader_changes(case, channels)]
    if not changes:
        return None
    trained = case.meta['input']
    ranges = ''.join(
        f', values from {describe_range(r)}' for r in trained.get('value_ranges') or ()
    )
    text = (
        f'the weights were trained on {channels} channels in the order of the files{ranges}, mean '
        f'{trained.get("mean")}, std {trained.get("std")}, and the detector does not read and scale its '
        f'images like that: {", ".join(change.path for change in changes)}'
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


def reader_changes(case: Case, channels: int) -> Iterator[Change]:
    """All pipelines read the channels, with the value range of the weights."""
    trained = [read_value_range(r, channels) for r in case.meta['input'].get('value_ranges') or ()]
    reader = dict(type='mcl_mm.LoadAnyImage', channels=channels)
    if trained:
        reader['value_range'] = [list(pair) for pair in trained[0]]
    for loader in LOADERS:
        for path, part in dicts_in(case.cfg.get(loader) or {}, loader):
            if type_name(part) not in READERS:
                continue
            same = type_name(part) == 'LoadAnyImage' and part.get('channels') == channels
            own = read_value_range(part.get('value_range'), channels) if same else None
            if not same or (trained and own not in trained):
                yield Change(path, dict(reader), '')


def colours_of_rgb(case: Case) -> Optional[Finding]:
    """Transforms that take the first three channels to be blue, green and red."""
    if not trained_channels(case) or not case.loads('backbone.'):
        return None
    found = {type_name(p) for loader in LOADERS for p in find_parts(case.cfg.get(loader), *FOR_RGB)}
    if not found:
        return None
    names = ', '.join(sorted(found))
    text = f'{names} of the pipelines change colours of RGB images, and these have other channels'
    return Finding('rgb-transforms', text, f'leave {names} out of the pipelines')


RULES = (other_channels, colours_of_rgb)
