"""What in a detector's config spoils its pre-trained weights: one function a trap."""

from collections.abc import Sequence
from typing import NamedTuple, Optional

from mmengine.config import Config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .check import Finding, LoadReport
from .fit import BOX_CONVS

# SGD's learning rate per image in MMDetection's 1x schedule and in the paper's protocol. RetinaNet,
# FCOS and PASCAL VOC use half of it; another factor than TOLERANCE allows is taken for a mistake.
PROTOCOL_LR = 0.02 / 16
TOLERANCE = 3
# Epochs of the 1x schedule.
PROTOCOL_EPOCHS = 12
# Images per batch norm statistic below which it costs accuracy (Group Normalization, arXiv 1803.08494).
SMALL_BATCH = 8
SYNC_BN = "norm_cfg = dict(type='SyncBN', requires_grad=True)"


class Case(NamedTuple):
    """A detector, its config and weights: what a trap is looked for in.

    Attributes:
        cfg (Config): Of the run.
        model (nn.Module): The detector in training mode, not wrapped.
        state_dict (dict[str, Tensor]): The weights of the file.
        meta (dict): The file's record of how they were trained.
        parts (Sequence[str]): What is to be carried.
        report (LoadReport): What loads.
        processes (int): That train.
    """

    cfg: Config
    model: nn.Module
    state_dict: dict[str, Tensor]
    meta: dict
    parts: Sequence[str]
    report: LoadReport
    processes: int


def loaded(case: Case, prefix: str) -> list[str]:
    """Names that load and begin with a prefix."""
    return [name for name in case.report.loaded if name.startswith(prefix)]


def frozen_stages(case: Case) -> Optional[Finding]:
    """Stages that do not learn."""
    weights = [
        (name, parameter)
        for name, parameter in case.model.backbone.named_parameters()
        if parameter.ndim > 1
    ]
    frozen = [name for name, parameter in weights if not parameter.requires_grad]
    if not frozen or not loaded(case, 'backbone.'):
        return None
    text = (
        f'{len(frozen)} of {len(weights)} weights of the backbone are frozen, first {frozen[0]}: they '
        'stay as pre-training left them, and the layers above must make do'
    )
    return Finding('frozen-stages', text, 'model = dict(backbone=dict(frozen_stages=-1))')


def frozen_norm(case: Case) -> Optional[Finding]:
    """Normalisation whose scale and shift do not learn, in stages that do."""
    frozen = [
        name
        for name, module in case.model.named_modules()
        if isinstance(module, _BatchNorm) and module.training and module.affine
        if not module.weight.requires_grad
    ]
    if not frozen:
        return None
    text = (
        f'scale and shift of {len(frozen)} batch norm layers are frozen, first {frozen[0]}: they keep '
        'to the statistics of pre-training'
    )
    fix = 'model = dict(backbone=dict(norm_cfg=dict(requires_grad=True)))'
    return Finding('frozen-norm', text, fix)


def norm_eval(case: Case) -> Optional[Finding]:
    """Batch norm that keeps its statistics."""
    backbone = case.model.backbone
    if not getattr(backbone, 'norm_eval', False) or not loaded(case, 'backbone.'):
        return None
    if not any(isinstance(module, _BatchNorm) for module in backbone.modules()):
        return None
    text = (
        'norm_eval keeps the batch norm statistics of pre-training; those of MCL are of sheets of small '
        'pasted images, not of the scenes that the detector sees'
    )
    return Finding('norm-eval', text, 'model = dict(backbone=dict(norm_eval=False))')


def small_batch(case: Case) -> Optional[Finding]:
    """Batch norm statistics over few images."""
    images = batch_size(case.cfg)
    if not images:
        return None
    synchronised = case.processes > 1 and case.cfg.get('sync_bn')
    seen = [
        images * (case.processes if synchronised or is_synchronised(module) else 1)
        for module in case.model.modules()
        if isinstance(module, _BatchNorm) and module.training
    ]
    if not seen or min(seen) >= SMALL_BATCH:
        return None
    text = (
        f'batch norm sees {min(seen)} images at a time: on ImageNet a ResNet-50 loses 1, 4 and 11 '
        'points of accuracy at 8, 4 and 2 images (Group Normalization, arXiv 1803.08494)'
    )
    if images * case.processes >= SMALL_BATCH:
        fix = "sync_bn = 'torch'  # or norm_cfg = dict(type='SyncBN') in backbone, neck and heads"
    else:
        fix = f'train_dataloader = dict(batch_size={-(-SMALL_BATCH // case.processes)})  # or more GPUs'
    return Finding('bn-small-batch', text, fix)


def is_synchronised(module: nn.Module) -> bool:
    """Whether a layer is PyTorch's or MMCV's batch norm across processes."""
    return type(module).__name__ == 'SyncBatchNorm'


def other_input(case: Case) -> Optional[Finding]:
    """Images in another colour order or scale than the weights were trained with."""
    trained = case.meta.get('input')
    ours = case.cfg.get('model', {}).get('data_preprocessor') or case.cfg.get('data_preprocessor')
    if not isinstance(trained, dict) or not ours or not loaded(case, 'backbone.'):
        return None
    # MMCV reads images as BGR.
    order = 'RGB' if ours.get('bgr_to_rgb') or ours.get('rgb_to_bgr') else 'BGR'
    given = dict(channel_order=order, mean=ours.get('mean'), std=ours.get('std'))
    if all(same_input(trained.get(key), value) for key, value in given.items()):
        return None
    described = ' / '.join(
        f'{d.get("channel_order")}, mean {d.get("mean")}, std {d.get("std")}'
        for d in (trained, given)
    )
    text = f'the weights were trained on other input than they get here: {described}'
    fix = (
        f'model = dict(data_preprocessor=dict(bgr_to_rgb={trained.get("channel_order") == "RGB"}, '
        f'mean={trained.get("mean")}, std={trained.get("std")}))'
    )
    return Finding('other-input', text, fix)


def same_input(trained: object, given: object) -> bool:
    """Whether two colour orders, means or deviations agree; what a file does not tell does."""
    if isinstance(trained, str):
        return trained == given
    if not isinstance(trained, (list, tuple)):
        return True
    return (
        given is not None
        and len(trained) == len(given)
        and all(abs(x - y) <= 0.01 * max(abs(x), 1) for x, y in zip(trained, given))
    )


def resnet_variant(case: Case) -> Optional[Finding]:
    """A ResNet that strides, or begins, otherwise, even where the shapes are the same."""
    trained = case.meta.get('backbone')
    backbone = case.model.backbone
    if not isinstance(trained, dict) or not hasattr(backbone, 'deep_stem'):
        return None
    kind = str(trained.get('type')).split('.')[-1]
    if not kind.startswith(('ResNet', 'ResNeXt')):
        return None
    theirs = dict(
        style=trained.get('style', 'pytorch'),
        deep_stem=trained.get('deep_stem', kind.endswith(('V1c', 'V1d'))),
        avg_down=trained.get('avg_down', kind.endswith('V1d')),
    )
    if trained.get('depth') in (18, 34):  # basic blocks know no style
        theirs.pop('style')
    differ = {k: v for k, v in theirs.items() if getattr(backbone, k) != v}
    if not differ:
        return None
    text = 'the ResNet is another variant than the pre-trained one, ' + ', '.join(
        f'{key} {getattr(backbone, key)!r} and not {value!r}' for key, value in differ.items()
    )
    text += ': its layers see features they were not trained on'
    fix = f'model = dict(backbone=dict({", ".join(f"{k}={v!r}" for k, v in differ.items())}))'
    return Finding('resnet-variant', text, fix)


def missing_norm(case: Case) -> Optional[Finding]:
    """Convs that load without the normalisation they were trained with."""
    have = set(case.report.loaded)
    bare = [
        name
        for name in case.report.unexpected
        if name.startswith(('neck.', 'roi_head.')) and name.endswith(('.bn.weight', '.gn.weight'))
        if f'{name.rsplit(".", 2)[0]}.conv.weight' in have
    ]
    if not bare:
        return None
    text = (
        f'{len(bare)} convs of neck and box head load without the norm that followed them in '
        f'pre-training, first {bare[0].rsplit(".", 2)[0]}: their outputs have another scale than the '
        'convs after them were trained on'
    )
    where = [
        line
        for prefix, line in (
            ('neck.', 'neck=dict(norm_cfg=norm_cfg)'),
            ('roi_head.', 'roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg))'),
        )
        if any(name.startswith(prefix) for name in bare)
    ]
    norm = SYNC_BN
    if bare[0].endswith('.gn.weight'):
        norm = "norm_cfg = dict(type='GN', num_groups=32, requires_grad=True)"
    fix = f'{norm}; model = dict({", ".join(where)})'
    return Finding('missing-norm', text, fix)


def no_convs_in_box_head(case: Case) -> Optional[Finding]:
    """A box head without the convs that the file offers."""
    offered = [name for name in case.state_dict if name.startswith(BOX_CONVS)]
    # Heads of another kind, as Sparse R-CNN's, cannot be given any; the notes say so.
    heads = [module for module in case.model.modules() if hasattr(module, 'num_shared_convs')]
    if 'box_head' not in case.parts or not offered or not heads:
        return None
    if any(head.num_shared_convs for head in heads):
        return None
    text = (
        f'the box head has no convs, and {len(offered)} pre-trained tensors for them stay unused: in '
        'the paper they are part of the gain'
    )
    head = "dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg)"
    if len(heads) == 1:
        fix = f'{SYNC_BN}; model = dict(roi_head=dict(bbox_head={head}))'
    else:
        fix = f'{SYNC_BN}; {head} in each of model.roi_head.bbox_head'
    fix += "  # or TransferHook(parts=('backbone', 'neck')) if the head is to stay"
    return Finding('no-box-convs', text, fix)


def second_source(case: Case) -> Optional[Finding]:
    """An initialisation from another file, which ``load_from`` overwrites."""
    for name, module in case.model.named_modules():
        init_cfgs = getattr(module, 'init_cfg', None) or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
            if init_cfg.get('type') == 'Pretrained':
                text = (
                    f'{name or "the model"} also starts from {init_cfg.get("checkpoint")}: load_from '
                    'overwrites what it has, and whatever it lacks quietly stays from there'
                )
                fix = 'dict(init_cfg=None)'
                for part in reversed(name.split('.') if name else []):
                    fix = f'dict({part}={fix})'
                return Finding('second-source', text, f'model = {fix}')
    return None


def learning_rate(case: Case) -> Optional[Finding]:
    """A learning rate that does not belong to the batch size."""
    optim = case.cfg.get('optim_wrapper') or {}
    optimizer = optim.get('optimizer') or {}
    images = batch_size(case.cfg)
    if not images or not isinstance(optimizer.get('lr'), (int, float)):
        return None
    batch = images * case.processes
    scaling = case.cfg.get('auto_scale_lr') or {}
    base = scaling.get('base_batch_size')
    lr = optimizer['lr'] * (batch / base if base and scaling.get('enable') else 1)
    batch *= optim.get('accumulative_counts', 1)
    if has_sgd(case.cfg):
        factor = lr / batch / PROTOCOL_LR
    elif base and not scaling.get('enable'):
        factor = base / batch
    else:
        return None
    if 1 / TOLERANCE <= factor <= TOLERANCE:
        return None
    if base and base != batch and not scaling.get('enable'):
        text = (
            f'the learning rate {lr:g} is for {base} images per step and this run has {batch}: it is '
            f'{base / batch:.3g} times what it should be'
        )
        fix = 'auto_scale_lr = dict(enable=True)  # or --auto-scale-lr'
        return Finding('lr-not-scaled', text, fix)
    text = (
        f'the learning rate {lr:g} at {batch} images per step is {factor:.3g} times that of the 1x '
        f'schedule (0.02 at 16)'
    )
    fix = f'optim_wrapper = dict(optimizer=dict(lr={PROTOCOL_LR * batch:.3g}))'
    return Finding('lr-far', text, fix)


def no_warmup(case: Case) -> Optional[Finding]:
    """Schedulers of which none raises the learning rate at the beginning."""
    if not has_sgd(case.cfg):  # with AdamW detectors often do without
        return None
    rising = ('LinearLR', 'ConstantLR', 'OneCycleLR', 'QuadraticWarmupLR')
    if any(type_name(s) in rising and not s.get('begin', 0) for s in schedulers(case.cfg)):
        return None
    text = (
        'the learning rate starts at its full height: the new heads send large gradients into the '
        'pre-trained layers'
    )
    fix = (
        "param_scheduler = [dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, "
        'end=500), ...]'
    )
    return Finding('no-warmup', text, fix)


def no_decay(case: Case) -> Optional[Finding]:
    """Schedulers of which none lowers the learning rate before the run ends."""
    if not case.cfg.get('optim_wrapper'):  # no run is described
        return None
    train = case.cfg.get('train_cfg') or {}
    for scheduler in schedulers(case.cfg):
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
    fix = (
        f"param_scheduler = [..., dict(type='MultiStepLR', by_epoch={by_epoch}, "
        f'milestones={[round(end * 2 / 3), round(end * 11 / 12)]}, gamma=0.1, end={end})]'
    )
    return Finding('no-decay', text, fix)


def few_epochs(case: Case) -> Optional[Finding]:
    """Fewer epochs than the 1x schedule."""
    epochs = (case.cfg.get('train_cfg') or {}).get('max_epochs')
    dataset = (case.cfg.get('train_dataloader') or {}).get('dataset') or {}
    while epochs and dataset:
        epochs *= dataset.get('times', 1) if type_name(dataset) == 'RepeatDataset' else 1
        dataset = dataset.get('dataset') or {}
    if not epochs or epochs >= PROTOCOL_EPOCHS:
        return None
    text = (
        f'training takes {epochs} of the {PROTOCOL_EPOCHS} epochs of the 1x schedule: the heads, which '
        'start at random, may not get to use the features'
    )
    return Finding('few-epochs', text, f'train_cfg = dict(max_epochs={PROTOCOL_EPOCHS})')


TRAPS = (
    frozen_stages,
    frozen_norm,
    norm_eval,
    small_batch,
    other_input,
    resnet_variant,
    missing_norm,
    no_convs_in_box_head,
    second_source,
    learning_rate,
    no_warmup,
    no_decay,
    few_epochs,
)


def batch_size(cfg: Config) -> Optional[int]:
    """Images per process and step, as far as the config tells."""
    return (cfg.get('train_dataloader') or {}).get('batch_size')


def has_sgd(cfg: Config) -> bool:
    """Whether the optimiser is that of the protocol."""
    optimizer = (cfg.get('optim_wrapper') or {}).get('optimizer') or {}
    return type_name(optimizer) == 'SGD'


def schedulers(cfg: Config) -> list[dict]:
    """The learning rate's schedulers in a config; a single one may stand alone."""
    found = cfg.get('param_scheduler') or []
    found = [found] if isinstance(found, dict) else found
    return [scheduler for scheduler in found if type_name(scheduler).endswith('LR')]


def type_name(part: dict) -> str:
    """Name of the class that a part of a config is of, without scope; its type may be the class itself."""
    kind = part.get('type') or ''
    return getattr(kind, '__name__', str(kind)).split('.')[-1]
