"""Rules about the feature pyramid: it computes what the one in pre-training does."""

from typing import Optional

from ..settings import (
    LATERALS,
    argument,
    is_norm,
    names_batch_norm,
    norm_in_weights,
    pyramid_of,
    scope_of,
)
from .case import Case, Finding, curable

# Settings that the pyramid in pre-training does not have.
ABSENT = dict(conv_cfg=None, act_cfg=None, no_norm_on_lateral=False)


def missing_norm(case: Case) -> Optional[Finding]:
    """Convs of the pyramid that load without the normalisation they were trained with."""
    path, neck = pyramid_of(case.cfg)
    if neck is None or not case.offers(LATERALS):
        return None
    norm = norm_in_weights(case.cfg, case.names, LATERALS)
    own = argument(neck, 'norm_cfg', scope_of(case.cfg))
    if norm is None or is_norm(own, norm) or stands_for(case, own, norm):
        return None
    text = (
        f'in the weights a norm follows every conv of the pyramid, and here {own or "none"}: the same '
        'convs give maps of another scale than the convs after them were trained on'
    )
    if is_trained_batch_norm(own) and names_batch_norm(norm):
        text = (
            'batch norm of the pyramid sees the images of one GPU alone, which may be too few. SyncBN takes '
            'statistics from those of all GPUs; on one process MMEngine makes plain BN of it'
        )
    return curable('missing-norm', text, {f'{path}.norm_cfg': norm}, case.cfg)


def stands_for(case: Case, own: Optional[dict], norm: dict) -> bool:
    """Whether a plain batch norm may stand for a synchronised one: the run's number of processes is known.

    How many images it sees is another rule's question.
    """
    known = case.processes is not None or case.cfg.get('sync_bn')
    return bool(known and is_trained_batch_norm(own) and names_batch_norm(norm))


def is_trained_batch_norm(norm: Optional[dict]) -> bool:
    """Whether a ``norm_cfg`` is a batch norm whose scale and shift learn."""
    return bool(norm) and norm.get('requires_grad', True) and names_batch_norm(norm)


def other_pyramid(case: Case) -> Optional[Finding]:
    """Settings of the pyramid that the one in pre-training does not have."""
    path, neck = pyramid_of(case.cfg)
    if neck is None or not case.offers(LATERALS):
        return None
    extra = [name for name in ABSENT if argument(neck, name, scope_of(case.cfg))]
    if not extra:
        return None
    text = f'the pyramid in pre-training has no {" and no ".join(extra)}'
    return curable(
        'other-pyramid', text, {f'{path}.{name}': ABSENT[name] for name in extra}, case.cfg
    )


RULES = (missing_norm, other_pyramid)
