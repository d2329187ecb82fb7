"""What the images of a set are like, by looking at some: said once, before a run."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional, Union

import numpy as np
from PIL import Image

from .channels import draw_values, load_channels, measure_channels
from .decoding import BadImageError, load_pixels, open_image, shown
from .depth import PERCENTILES, ChannelRanges, ValueRange, describe_range, measure, to_bytes
from .loading import finish
from .scan import spread
from .storage import as_file

TRIED, LOOKED_AT, MEASURED = 16, 8, 64  # images of a set
VALUES = 4096  # of an image, drawn at random
BLACK, FLAT = 5, 20  # of 255: mean, distance of the outer percents
CLIPPED = 0.5  # share of values that are 0 or 255
PICTURES_IN_A_PICTURE = ('MPO',)  # a phone's depth or brightness beside the photograph


class Look(NamedTuple):
    """What one file is like.

    Attributes:
        reason (str, optional): Why it cannot be used.
        deep (bool): It has more than 8 bits a sample.
        left_out (str): What of it is not used.
        values (np.ndarray, optional): Some of its values, ``(VALUES,)``, with channels ``(VALUES, C)``;
            uint8 unless ``deep``.
    """

    reason: Optional[str] = None
    deep: bool = False
    left_out: str = ''
    values: Optional[np.ndarray] = None


def look(path: str, channels: Optional[int] = None) -> Look:
    """Decode a file and say what it is like, at reduced size if it is a JPEG."""
    if channels is not None:
        return look_at_channels(path, channels)
    try:
        pixels = load_pixels(path, min_side=64)
        deep = isinstance(pixels, np.ndarray)
        values = pixels if deep else np.asarray(finish(path, pixels, min_side=64))
    except BadImageError as error:
        return Look(error.reason)
    values = (values[..., :3] if values.ndim == 3 else values).reshape(-1)
    values = values[np.random.default_rng(0).integers(0, len(values), VALUES)]
    if deep and not np.isfinite(values).all():
        return Look('damaged: pixels that are not finite numbers')
    return Look(None, deep, left_out(path), values)


def look_at_channels(path: str, channels: int) -> Look:
    """See :func:`look`: for a set with channels, of which nothing is left out."""
    try:
        values = load_channels(path, channels, min_side=64)
    except BadImageError as error:
        return Look(error.reason)
    if not np.isfinite(values).all():
        return Look('damaged: pixels that are not finite numbers')
    return Look(None, values.dtype != np.uint8, '', draw_values(values, VALUES))


def left_out(path: str) -> str:
    """What of a file that can be used is not."""
    try:
        with open_image(as_file(path)) as image:
            return left_out_of(image)
    except Exception:  # it has been decoded in another way
        return ''


def left_out_of(image: Image.Image) -> str:
    """What of an opened image is not used, '' for nothing."""
    if image.format == 'TIFF':
        extra = image.tag_v2.get(338, ())
        if len(image.tag_v2.get(258, ())) > 3 and any(kind not in (1, 2, 999) for kind in extra):
            return 'bands beyond red, green and blue'
    several = getattr(image, 'is_animated', False) and image.format not in PICTURES_IN_A_PICTURE
    return 'pages or frames after the first' if several else ''


def tone(values: np.ndarray) -> Optional[str]:
    """What is wrong with bytes of an image: too little to see, or too much at the ends.

    Args:
        values (np.ndarray): uint8, some of its values.

    Returns:
        str, optional: ``'nearly black'``, ``'nearly flat'``, ``'clipped'`` or None.
    """
    if values.mean() < BLACK:
        return 'nearly black'
    low, high = np.percentile(values, (1, 99))
    if high - low < FLAT:
        return 'nearly flat'
    at_ends = np.isin(values, (0, 255)).mean()
    return 'clipped' if at_ends > CLIPPED else None


MEANING = {
    'nearly black': f'their mean is below {BLACK} of 255',
    'nearly flat': f'98 percent of their values lie within {FLAT} of 255',
    'clipped': f'more than {CLIPPED:.0%} of their values are 0 or 255',
}


def tones(looks: Iterable[Look], value_range: Optional[ValueRange]) -> 'Counter[str]':
    """How many images are of which tone; see :func:`tone`."""
    values = (to_bytes(x.values, value_range) if x.deep else x.values for x in looks)
    return Counter(found for v in values if (found := tone(v)))


class Survey(NamedTuple):
    """What a few images say of a set.

    Attributes:
        value_range (tuple, optional): Of images with more than 8 bits; None without any.
        remarks (list[str]): Sentences for the user, those that ask for something.
        range_text (str): How the range was found; '' if it was given, or is not needed.
    """

    value_range: Union[ValueRange, ChannelRanges, None]
    remarks: list[str]
    range_text: str


def survey(
    paths: Sequence[str],
    value_range: Union[ValueRange, ChannelRanges, None] = None,
    channels: Optional[int] = None,
) -> Survey:
    """Look at a few images, the same ones in every process and at every start.

    Args:
        paths (Sequence[str]): All of them.
        value_range (tuple, optional): Known. Defaults to None, measured if it is needed.
        channels (int, optional): Of a set with ``channels=N``. Defaults to None, pictures.

    Returns:
        Survey: What they say.

    Raises:
        ValueError: None of those that were tried can be used; says why for the first.
    """
    places, looks, bad = spread(len(paths), TRIED), [], []
    # All over the set first, then between, where some cannot be read.
    for place in (*places[::2], *places[1::2]):
        found = look(paths[place], channels)
        looks += [found] if found.reason is None else []
        bad += [(paths[place], found.reason)] if found.reason else []
        if len(looks) == LOOKED_AT:
            break
    if not looks:
        path, reason = bad[0]
        raise ValueError(
            f'no readable image: none of {len(bad)} files tried can be used, the first being '
            f'{shown(path)} ({reason})'
        )
    if channels is not None:
        return survey_channels(paths, looks, value_range, channels)
    range_text = ''
    if value_range is None and any(x.deep for x in looks):
        more = [look(paths[place]) for place in spread(len(paths), MEASURED)]
        deep = [x.values for x in more + looks if x.deep]
        value_range = measure(deep)
        range_text = (
            f'images have more than 8 bits: {value_range[0]:g} becomes black, {value_range[1]:g} '
            f'white ({PERCENTILES[0]} and {PERCENTILES[1]} percent of the values of {len(more)} '
            f'images). Keep it, for other runs and the detector too, with '
            f'value_range=[{value_range[0]:g}, {value_range[1]:g}]; check_images measures all images'
        )
    return Survey(value_range, describe(looks, value_range), range_text)


def survey_channels(
    paths: Sequence[str],
    looks: Sequence[Look],
    value_range: Optional[ChannelRanges],
    channels: int,
) -> Survey:
    """The second half of :func:`survey` for a set with channels."""
    text, samples = '', [x.values for x in looks]
    if value_range is None and any(x.deep for x in looks):
        more = [look(paths[place], channels) for place in spread(len(paths), MEASURED)]
        samples = [x.values for x in more if x.reason is None] or samples
        value_range = measure_channels(samples).value_range
        text = (
            f'values of {len(samples)} images, from {PERCENTILES[0]} to {PERCENTILES[1]} percent of each '
            f'channel, {describe_range(value_range)}, become 0 to 255. Keep them, for other runs and the '
            f'detector too: check-images --channels {channels} measures all images'
        )
    flat = measure_channels(samples, value_range).flat
    same = f'channels {", ".join(map(str, flat))} hold one value in all images looked at'
    return Survey(value_range, [same] if flat else [], text)


def describe(looks: Sequence[Look], value_range: Optional[ValueRange]) -> list[str]:
    """What is left out of images, and what half of them or more look like."""
    texts = []
    for what, count in Counter(x.left_out for x in looks if x.left_out).items():
        texts.append(f'{count} of {len(looks)} images looked at have {what}: these are left out')
    for found, count in tones(looks, value_range).items():
        if 2 * count >= len(looks):
            text = f'{count} of {len(looks)} images looked at are {found}: {MEANING[found]}'
            if any(x.deep for x in looks):
                text += f', once {value_range[0]:g} to {value_range[1]:g} is made 0 to 255'
            texts.append(text + '. A network sees little in them: check how they were written')
    return texts
