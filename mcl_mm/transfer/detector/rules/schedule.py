"""Rules about the schedule: rate, warm-up, decay, length. It stays the user's, so no finding changes it."""

import re
from typing import Optional

from mmengine.config import Config

from mcl_mm.config import type_name

from ..child_config import Change
from ..finding import line_of
from .case import Case, Finding

# SGD's learning rate per image in MMDetection's 1x schedule and in the paper's protocol; another factor
# than TOLERANCE allows is taken for a mistake.
PROTOCOL_LR = 0.02 / 16
TOLERANCE = 3
# Half of it needs no warm-up: MMDetection trains PASCAL VOC so.
GENTLE_LR = 0.01 / 16
# Epochs of the 1x schedule.
PROTOCOL_EPOCHS = 12
# Data sets of a million images and more, by what their settings name: fewer epochs of them are enough.
LARGER_THAN_COCO = re.compile('objects365|open_?images', re.IGNORECASE)
# Schedulers that can raise a rate.
RISING = ('LinearLR', 'ConstantLR', 'OneCycleLR', 'QuadraticWarmupLR')
# Detectors that MMDetection trains at other rates: lowest and highest SGD rate per image of its configs, by
# the class of the dense head, or of the detector. tests/zoo/doctor.py measures them.
FAMILIES = {
    'RetinaHead': (0.005 / 16, 0.02 / 16),
    'CenterNetHead': (0.02 / 128, 0.02 / 128),
    'CrowdDet': (0.002 / 16, 0.002 / 16),
    'PISASSDHead': (0.002 / 64, 0.002 / 64),
    'SSDHead': (0.001 / 64, 0.04 / 256),
    'YOLACTHead': (0.008 / 64, 0.001 / 8),
    'YOLOV3Head': (0.001 / 64, 0.003 / 192),
    'YOLOXHead': (0.0005 / 64, 0.01 / 64),
}


def learning_rate(case: Case) -> Optional[Finding]:
    """A learning rate that does not belong to the batch size."""
    optim, scaling = (case.cfg.get(key) or {} for key in ('optim_wrapper', 'auto_scale_lr'))
    lr, images = (optim.get('optimizer') or {}).get('lr'), batch_size(case.cfg)
    if not images or case.processes is None or not isinstance(lr, (int, float)):
        return None
    batch, base = images * case.processes, scaling.get('base_batch_size')
    if base and scaling.get('enable'):
        lr, base = lr * batch / base, None
    batch *= optim.get('accumulative_counts', 1)
    family = published_rates(case)
    if family:
        rate = lr / batch
        factor = rate / min(max(rate, family[0]), family[1])
    elif base:
        factor = base / batch
    else:
        return None
    if 1 / TOLERANCE <= factor <= TOLERANCE:
        return None
    if base and base != batch:
        text = (
            f'the learning rate {lr:g} is for {base} images per step and this run has {batch}: it is '
            f'{base / batch:.3g} times what it should be'
        )
        fix = 'auto_scale_lr = dict(enable=True)  # or --auto-scale-lr'
        return Finding('lr-not-scaled', text, fix)
    wanted = family[factor > 1] * batch
    whose = 'MMDetection gives this kind of detector'
    text = (
        f'the learning rate {lr:g} at {batch} images per step is {factor:.3g} times that of '
        f'{"the 1x schedule (0.02 at 16)" if family[0] == family[1] == PROTOCOL_LR else whose}'
    )
    return Finding('lr-far', text, f'optim_wrapper = dict(optimizer=dict(lr={wanted:.3g}))')


def published_rates(case: Case) -> Optional[tuple[float, float]]:
    """Lowest and highest SGD rate per image of MMDetection's configs of this kind of detector.

    Returns:
        tuple[float, float] | None: None for other optimisers, and for detectors of other packages.
    """
    model = case.model
    head = getattr(model, 'bbox_head', None)
    if not has_sgd(case.cfg) or not type(model).__module__.startswith('mmdet.'):
        return None
    if head is not None and not type(head).__module__.startswith('mmdet.'):
        return None
    for part in (head, model):
        if type(part).__name__ in FAMILIES:
            return FAMILIES[type(part).__name__]
    return PROTOCOL_LR, PROTOCOL_LR


def no_warmup(case: Case) -> Optional[Finding]:
    """Schedulers of which none raises the learning rate at the beginning."""
    if not has_sgd(case.cfg):  # with AdamW detectors often do without
        return None
    lr, batch = case.cfg.optim_wrapper.optimizer.get('lr'), batch_size(case.cfg)
    base = (case.cfg.get('auto_scale_lr') or {}).get('base_batch_size') or (
        batch and batch * (case.processes or 1)
    )
    if lr and base and lr / base <= GENTLE_LR:
        return None
    if any(type_name(s) in RISING and not s.get('begin', 0) for s in schedulers(case.cfg)):
        return None
    text = (
        'the learning rate starts at its full height: the new heads send large gradients into the '
        'pre-trained layers'
    )
    first = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
    return Finding('no-warmup', text, scheduled(case.cfg, [first, *all_schedulers(case.cfg)]))


def no_decay(case: Case) -> Optional[Finding]:
    """Schedulers of which none lowers the learning rate before the run ends."""
    if not case.cfg.get('optim_wrapper'):  # no run is described
        return None
    train, falling = case.cfg.get('train_cfg') or {}, schedulers(case.cfg)
    for scheduler in falling:
        kind, by_epoch = type_name(scheduler), scheduler.get('by_epoch', True)
        end = train.get('max_epochs') if by_epoch else train.get('max_iters')
        first = {
            'MultiStepLR': min(scheduler.get('milestones') or [float('inf')]),
            'StepLR': scheduler.get('step_size', 0),
            'LinearLR': scheduler.get('begin', 0) if scheduler.get('end_factor', 1) < 1 else None,
            'ConstantLR': None,
            'QuadraticWarmupLR': None,
        }.get(kind, scheduler.get('begin', 0))
        if first is not None and (end is None or first < end):
            return None
    text = (
        'the learning rate is never lowered before the run ends; the 1x schedule lowers it to a tenth '
        'after two thirds of the epochs and again near the end'
    )
    by_epoch = not train.get('max_iters')
    end = max(train.get('max_epochs') or 0, PROTOCOL_EPOCHS) if by_epoch else train['max_iters']
    steps = [round(end * 2 / 3), round(end * 11 / 12)]
    last = dict(type='MultiStepLR', by_epoch=by_epoch, milestones=steps, gamma=0.1, end=end)
    kept = [s for s in all_schedulers(case.cfg) if type_name(s) in RISING or s not in falling]
    return Finding('no-decay', text, scheduled(case.cfg, [*kept, last]))


def few_epochs(case: Case) -> Optional[Finding]:
    """Fewer epochs than the 1x schedule, of images that are not many times those of COCO."""
    epochs = (case.cfg.get('train_cfg') or {}).get('max_epochs')
    dataset = (case.cfg.get('train_dataloader') or {}).get('dataset') or {}
    if LARGER_THAN_COCO.search(str(dataset)):
        return None
    while epochs and dataset:
        epochs *= dataset.get('times', 1) if type_name(dataset) == 'RepeatDataset' else 1
        dataset = dataset.get('dataset') or {}
    if not epochs or epochs >= PROTOCOL_EPOCHS:
        return None
    text = (
        f'training takes {epochs} of the {PROTOCOL_EPOCHS} epochs of the 1x schedule: the heads, which '
        'start at random, may not get to use the features'
    )
    wanted = -(-PROTOCOL_EPOCHS * case.cfg.train_cfg.max_epochs // epochs)
    return Finding('few-epochs', text, f'train_cfg = dict(max_epochs={wanted})')


def batch_size(cfg: Config) -> Optional[int]:
    """Images per process and step, as far as the config tells."""
    return (cfg.get('train_dataloader') or {}).get('batch_size')


def has_sgd(cfg: Config) -> bool:
    """Whether the optimiser is that of the protocol."""
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    return type_name(optimizer) == 'SGD'


def all_schedulers(cfg: Config) -> list[dict]:
    """The schedulers in a config; a single one may stand alone."""
    found = cfg.get('param_scheduler') or []
    return [found] if isinstance(found, dict) else list(found)


def schedulers(cfg: Config) -> list[dict]:
    """Those of the learning rate."""
    return [scheduler for scheduler in all_schedulers(cfg) if type_name(scheduler).endswith('LR')]


def scheduled(cfg: Config, wanted: list[dict]) -> str:
    """The line of a config that sets its schedulers."""
    return line_of([Change('param_scheduler', wanted, '')], cfg)


RULES = (learning_rate, no_warmup, no_decay, few_epochs)
