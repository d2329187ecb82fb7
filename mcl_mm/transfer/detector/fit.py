"""Give weights the names that a particular detector has for them."""

import re
from collections.abc import Sequence
from typing import Optional

from torch import Tensor, nn

from mcl_mm.models.modules import unwrap

# Names of an FPN's levels, alone or as the first of several necks; PAFPN has the last two as well.
LEVEL = re.compile(
    r'neck\.(?:\d+\.)?(lateral_convs|fpn_convs|downsample_convs|pafpn_convs)\.(\d+)\.(.+)'
)
# Of Swin and ConvNeXt: a norm for each map they give.
MAP_NORM = re.compile(r'backbone\.norm\d\.(weight|bias)')
BOX_CONVS = 'roi_head.bbox_head.shared_convs.'
# Where a detector without a pyramid (C4) has the backbone's last stage: it works on regions.
REGION_STAGE = 'roi_head.shared_head.'
# What a detector can be given; what is neither backbone nor neck belongs to the heads.
PARTS = ('backbone', 'neck', 'box_head')


def fit_to_detector(
    state_dict: dict[str, Tensor], model: nn.Module, parts: Sequence[str] = PARTS
) -> dict[str, Tensor]:
    """Rename weights so that each loads where a detector computes what it was trained for.

    An export numbers its pyramid from P2. MMDetection numbers a pyramid from its own lowest level,
    so that in RetinaNet, FCOS or ATSS (``start_level=1``) the names of our P2 stand for P3, and those
    of our P5 for an extra level P6. Levels are moved to where the laterals read the same stage of the
    backbone, and left out where the detector has none. The convs of the box head go to every stage
    of a Cascade R-CNN that has the place. An FPN that is the first of several necks is found there.
    The last stage of the backbone is found in the head of a detector without a pyramid (C4).
    The norm of a map that the detector's backbone does not give is left out. All other names, and all
    names of a file that has everything the detector has, stay as they are.

    Args:
        state_dict (dict[str, Tensor]): An export, or weights of another detector.
        model (nn.Module): The detector, wrapped or not.
        parts (Sequence[str]): Which of ``PARTS`` to give it. Defaults to all. A file that has
            everything the detector has is its own checkpoint, and is given whole.

    Returns:
        dict[str, Tensor]: The same tensors under the detector's names.
    """
    if is_complete(state_dict, model):
        return dict(state_dict)
    return {
        name: value
        for name, value in renamed(state_dict, unwrap(model)).items()
        if part_to_carry(name) in parts
    }


def part_to_carry(name: str) -> str:
    """Which of ``PARTS`` a weight belongs to."""
    first = name.split('.')[0]
    if name.startswith(REGION_STAGE):
        return 'backbone'
    return first if first in PARTS else 'box_head'


def renamed(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """See :func:`fit_to_detector`; without the exception for a detector's own checkpoint."""
    own = model.state_dict()
    levels = level_names(state_dict, model)
    fitted = {}
    for name, value in state_dict.items():
        if name in levels:
            fitted.update(dict.fromkeys(levels[name], value))
        elif name not in own and (at_region := name.replace('backbone.', REGION_STAGE, 1)) in own:
            fitted[at_region] = value
        elif name.startswith(BOX_CONVS) and name not in own:
            stage_name = re.compile(
                r'roi_head\.bbox_head\.\d+\.shared_convs\.'
                + re.escape(name.removeprefix(BOX_CONVS))
            )
            stages = [key for key in own if stage_name.fullmatch(key)]
            fitted.update(dict.fromkeys(stages or [name], value))
        elif name in own or not MAP_NORM.fullmatch(name):
            fitted[name] = value
    return fitted


def level_names(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, list[str]]:
    """The detector's names for what a file has of a pyramid: one, or none where it lacks the level.

    Returns:
        dict[str, list[str]]: By the file's names; empty if the pyramids do not match.
    """
    own = model.state_dict()
    theirs, ours = lateral_channels(state_dict), lateral_channels(own)
    shift = level_shift(theirs, ours, lowest_stage(model)) if theirs and ours else None
    if shift is None:
        return {}
    neck = next(name[: m.start(1)] for name in own if (m := LEVEL.fullmatch(name)))
    names = {}
    for name in state_dict:
        level = LEVEL.fullmatch(name)
        if not level:
            continue
        number = int(level[2])
        if number < len(theirs):
            number -= shift
            kept = 0 <= number < len(ours)
        else:  # convs for extra levels above the backbone's: they keep their distance to its top
            kept = len(theirs) - shift == len(ours)
            number += len(ours) - len(theirs)
        names[name] = [f'{neck}{level[1]}.{number}.{level[3]}'] if kept else []
    return names


def is_complete(state_dict: dict[str, Tensor], model: nn.Module) -> bool:
    """Whether weights are all that a model has: a checkpoint of its own."""
    return all(
        name in state_dict and state_dict[name].shape == value.shape
        for name, value in unwrap(model).state_dict().items()
        if not name.endswith('num_batches_tracked')  # MMEngine does not miss these either
    )


def lateral_channels(state_dict: dict[str, Tensor]) -> list[int]:
    """Input channels of an FPN's lateral convs, lowest level first; empty if there is no FPN."""
    channels = {}
    for name, value in state_dict.items():
        level = LEVEL.fullmatch(name)
        if level and level[1] == 'lateral_convs' and level[3] in ('conv.weight', 'weight'):
            channels[int(level[2])] = value.shape[1]
    return [channels[number] for number in sorted(channels)]


def level_shift(theirs: list[int], ours: list[int], lowest: int) -> Optional[int]:
    """How much lower a detector counts a pyramid level than the weights do.

    The shorter pyramid must be a part of the longer one, by the channels that the laterals read.

    Args:
        theirs (list[int]): Channels of the weights' laterals.
        ours (list[int]): Channels of the detector's laterals.
        lowest (int): Stage of the backbone, from 0, that the detector's lowest lateral reads. Decides
            where channels do not, as in a backbone whose stages are all of one width.

    Returns:
        int, optional: The shift, or None if the pyramids do not match.
    """
    longer, shorter = (theirs, ours) if len(theirs) >= len(ours) else (ours, theirs)
    offsets = [
        offset
        for offset in range(len(longer) - len(shorter) + 1)
        if longer[offset : offset + len(shorter)] == shorter
    ]
    if not offsets:
        return None
    if longer is ours:
        return -offsets[0]
    return lowest if lowest in offsets else offsets[0]


def lowest_stage(model: nn.Module) -> int:
    """The stage of the backbone, from 0, that a detector's lowest lateral reads."""
    neck = model.neck[0] if isinstance(model.neck, nn.Sequential) else model.neck
    out_indices = getattr(model.backbone, 'out_indices', None) or (0,)
    return min(out_indices) + getattr(neck, 'start_level', 0)
