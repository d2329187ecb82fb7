"""Rules about box heads: each has four shared convs, the place of the projector's."""

from typing import Optional

from mcl_mm.config import type_name

from ..fit import BOX_CONVS
from ..settings import argument, box_heads_of, is_norm, norm_in_weights, pyramid_of, scope_of
from .case import Case, Finding, curable
from .pyramid import stands_for


def no_box_convs(case: Case) -> Optional[Finding]:
    """A box head without the convs that the file offers."""
    if not fitting(case):
        return None
    settings = {}
    for path, head in box_heads_of(case.cfg):
        if type_name(head) == 'Shared2FCBBoxHead':
            settings[f'{path}.type'] = 'Shared4Conv1FCBBoxHead'
        elif type_name(head) == 'ConvFCBBoxHead' and head.get('num_shared_convs', 0) != 4:
            settings[f'{path}.num_shared_convs'] = 4
        else:
            continue
        norm = norm_in_weights(case.cfg, case.names, BOX_CONVS)
        if norm and not is_norm(argument(head, 'norm_cfg', scope_of(case.cfg)), norm):
            settings[f'{path}.norm_cfg'] = norm
    if not settings:
        return None
    text = (
        'the box head has no place for the four convs of the projector in pre-training, which become a '
        "box head's shared convs: in the paper they are part of the gain"
    )
    keep = "  # or TransferHook(parts=('backbone', 'neck')) if the head is to stay"
    return curable('no-box-convs', text, settings, case.cfg, keep)


def other_box_convs(case: Case) -> Optional[Finding]:
    """Shared convs that compute something else than those of the projector."""
    _, neck = pyramid_of(case.cfg)
    if not fitting(case) or neck is None:
        return None
    settings, scope = {}, scope_of(case.cfg)
    for path, head in box_heads_of(case.cfg):
        if argument(head, 'conv_cfg', scope):
            settings[f'{path}.conv_cfg'] = None
        if argument(head, 'conv_out_channels', scope) != neck.out_channels:
            settings[f'{path}.conv_out_channels'] = neck.out_channels
    if not settings:
        return None
    text = 'the convs of the projector are plain ones, as wide as the pyramid'
    return curable('other-box-convs', text, settings, case.cfg)


def missing_box_norm(case: Case) -> Optional[Finding]:
    """Shared convs that load without the normalisation they were trained with."""
    norm = norm_in_weights(case.cfg, case.names, BOX_CONVS)
    if not fitting(case) or norm is None:
        return None
    settings = {}
    for path, head in box_heads_of(case.cfg):
        own = argument(head, 'norm_cfg', scope_of(case.cfg))
        has_convs = type_name(head) == 'Shared4Conv1FCBBoxHead' or head.get('num_shared_convs') == 4
        if has_convs and not is_norm(own, norm) and not stands_for(case, own, norm):
            settings[f'{path}.norm_cfg'] = norm
    if not settings:
        return None
    text = (
        "in the weights a norm follows each of the box head's convs, and here another or none: their "
        'outputs have another scale than they were trained to'
    )
    return curable('missing-norm', text, settings, case.cfg)


def fitting(case: Case) -> bool:
    """Whether the file offers convs, and the box head reads a pyramid such as they were trained on."""
    return case.offers(BOX_CONVS) and pyramid_of(case.cfg)[1] is not None


RULES = (no_box_convs, other_box_convs, missing_box_norm)
