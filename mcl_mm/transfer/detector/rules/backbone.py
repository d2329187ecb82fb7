"""Rules about the backbone: it learns, its norms too, and it is the network that was pre-trained."""

from typing import Optional

from mmengine.dist import get_world_size
from torch import nn

from mcl_mm.config import type_name
from mcl_mm.models.modules import is_batch_norm, is_synchronised

from ..settings import (
    argument,
    default_of,
    dicts_in,
    has_region_stage,
    is_norm,
    names_batch_norm,
    norm_name,
    scope_of,
    synchronised,
)
from ..sources import SOURCES, start_is_a_file
from .case import Case, Finding, curable

# Images per batch norm statistic below which it costs accuracy (Group Normalization, arXiv 1803.08494).
SMALL_BATCH = 8
# GPUs of a machine, where nothing tells: the doctor need not run on the one that trains.
MACHINE = 8


def frozen_stages(case: Case) -> Optional[Finding]:
    """Stages that do not learn."""
    weights = [
        (name, parameter)
        for name, parameter in case.model.backbone.named_parameters()
        if parameter.ndim > 1
    ]
    frozen = [name for name, parameter in weights if not parameter.requires_grad]
    thawed = default_of(case.backbone, 'frozen_stages', scope_of(case.cfg)) if case.backbone else -1
    stages = getattr(case.model.backbone, 'frozen_stages', thawed)
    if not frozen or stages == thawed or not case.loads('backbone.'):
        return None
    text = (
        f'{len(frozen)} of {len(weights)} weights of the backbone are frozen, first {frozen[0]}: they '
        'stay as pre-training left them, with the statistics of its sheets, and the layers above must '
        'make do'
    )
    return curable('frozen-stages', text, {'model.backbone.frozen_stages': thawed}, case.cfg)


def frozen_norm(case: Case) -> Optional[Finding]:
    """Normalisation of the backbone whose scale and shift do not learn."""
    norm = case.backbone.get('norm_cfg')
    if not case.loads('backbone.') or not norm or norm.get('requires_grad', True):
        return None
    text = (
        'scale and shift of the norms of the backbone are frozen: they keep to the statistics of '
        'pre-training'
    )
    return curable('frozen-norm', text, {'model.backbone.norm_cfg.requires_grad': True}, case.cfg)


def norm_eval(case: Case) -> Optional[Finding]:
    """Batch norm that keeps its statistics."""
    backbone = case.model.backbone
    if not getattr(backbone, 'norm_eval', False) or not case.loads('backbone.'):
        return None
    if not any(map(is_batch_norm, backbone.modules())):
        return None
    text = (
        'norm_eval keeps the batch norm statistics of pre-training; those of MCL are of sheets of small '
        'pasted images, not of the scenes that the detector sees'
    )
    return curable('norm-eval', text, {'model.backbone.norm_eval': False}, case.cfg)


def small_batch(case: Case) -> Optional[Finding]:
    """Batch norm statistics over few images."""
    if case.processes is None:
        return unsynchronised(case)
    images = (case.cfg.get('train_dataloader') or {}).get('batch_size')
    if not images:
        return None
    seen = [
        images * processes_in_statistic(case, module)
        for name, module in case.model.named_modules()
        if is_batch_norm(module) and module.training and starts_pretrained(case, name)
    ]
    if not seen or min(seen) >= SMALL_BATCH:
        return None
    text = (
        f'batch norm sees {min(seen)} images at a time: on ImageNet a ResNet-50 loses 1, 4 and 11 '
        'points of accuracy at 8, 4 and 2 images (Group Normalization, arXiv 1803.08494)'
    )
    if images * processes_in_group(case) < SMALL_BATCH <= images * case.processes:
        fix = "sync_bn = 'torch'; sync_bn_group = 'all'  # statistics of all processes"
    elif images * case.processes >= SMALL_BATCH:
        fix = "sync_bn = 'torch'  # or norm_cfg = dict(type='SyncBN') in backbone, neck and heads"
    else:
        fix = f'train_dataloader = dict(batch_size={-(-SMALL_BATCH // case.processes)})  # or more GPUs'
    return Finding('bn-small-batch', text, fix)


def starts_pretrained(case: Case, name: str) -> bool:
    """Whether the statistics of a norm come from the file: heads of their own have what suits them."""
    return case.report is None or f'{name}.running_mean' in case.report.loaded


def processes_in_statistic(case: Case, layer: nn.Module) -> int:
    """Processes whose images a layer of batch norm sees at a time."""
    group = getattr(layer, 'process_group', None)
    if group is not None:  # of a run that has begun
        return get_world_size(group)
    synchronised_by_run = case.processes > 1 and case.cfg.get('sync_bn')
    return processes_in_group(case) if synchronised_by_run or is_synchronised(layer) else 1


def processes_in_group(case: Case) -> int:
    """Processes that share statistics where batch norm is synchronised."""
    group = case.cfg.get('sync_bn_group')
    if group == 'machine':
        group = MACHINE
    return min(group, case.processes) if isinstance(group, int) else case.processes


def unsynchronised(case: Case) -> Optional[Finding]:
    """Batch norm of the backbone that sees the images of one GPU, on whatever number of them."""
    norm = argument(case.backbone, 'norm_cfg', scope_of(case.cfg)) if case.backbone else None
    if not names_batch_norm(norm) or norm_name(norm) == 'SyncBN' or case.cfg.get('sync_bn'):
        return None
    text = (
        'batch norm sees the images of one GPU alone, which are too few. SyncBN takes statistics from '
        'those of all GPUs; on one process MMEngine makes plain BN of it'
    )
    return curable(
        'bn-small-batch', text, {'model.backbone.norm_cfg': synchronised(norm)}, case.cfg
    )


def resnet_variant(case: Case) -> Optional[Finding]:
    """A ResNet that strides, or begins, otherwise, even where the shapes are the same."""
    trained, backbone = case.meta.get('backbone'), case.model.backbone
    if not isinstance(trained, dict) or not hasattr(backbone, 'deep_stem'):
        return None
    theirs, kind = dict(style=trained.get('style', 'pytorch')), type_name(trained)
    if kind:
        if not kind.startswith(('ResNet', 'ResNeXt')):
            return None
        theirs['deep_stem'] = trained.get('deep_stem', kind.endswith(('V1c', 'V1d')))
        theirs['avg_down'] = trained.get('avg_down', kind.endswith('V1d'))
    if getattr(backbone, 'depth', None) in (18, 34):  # basic blocks know no style
        theirs.pop('style')
    differ = {key: value for key, value in theirs.items() if getattr(backbone, key) != value}
    if not differ:
        return None
    text = 'the ResNet is another variant than the pre-trained one, ' + ', '.join(
        f'{key} {getattr(backbone, key)!r} and not {value!r}' for key, value in differ.items()
    )
    text += ': its layers see features they were not trained on'
    return curable(
        'resnet-variant',
        text,
        {f'model.backbone.{key}': value for key, value in differ.items()},
        case.cfg,
    )


def mm_sync_bn(case: Case) -> Optional[Finding]:
    """MMCV's synchronised batch norm, which one process cannot build."""
    if case.processes is not None and case.processes > 1:
        return None
    model = case.cfg.get('model') or {}
    places = [path for path, part in dicts_in(model, 'model') if type_name(part) == 'MMSyncBN']
    if not places:
        return None
    text = (
        f"MMCV's SyncBatchNorm, in {len(places)} places, cannot be built in one process; PyTorch's, which "
        'computes the same, can'
    )
    return curable('mm-sync-bn', text, {f'{path}.type': 'SyncBN' for path in places}, case.cfg)


def other_region_stage(case: Case) -> Optional[Finding]:
    """The last stage in the head of regions (C4), set otherwise than a backbone that learns."""
    if not has_region_stage(case.cfg) or not case.loads('backbone.'):
        return None
    stage = case.cfg.model.roi_head.shared_head
    scope, wanted = scope_of(case.cfg), {}
    norm = argument(stage, 'norm_cfg', scope)
    learns = dict(norm, requires_grad=True)
    if case.processes is None and not case.cfg.get('sync_bn'):
        learns = synchronised(learns)
    if not is_norm(norm, learns):
        wanted['norm_cfg'] = learns
    if argument(stage, 'norm_eval', scope) and names_batch_norm(norm):
        wanted['norm_eval'] = False
    trained = case.meta.get('backbone')
    style = trained.get('style', 'pytorch') if isinstance(trained, dict) else None
    if style not in (None, argument(stage, 'style', scope)) and stage.depth not in (18, 34):
        wanted['style'] = style
    wanted.update({name: None for name in SOURCES if start_is_a_file(stage.get(name))})
    if not wanted:
        return None
    text = (
        "the backbone's last stage is roi_head.shared_head, and its settings spoil its weights: "
        + ', '.join(f'{name}={stage.get(name)}' for name in wanted)
    )
    settings = {f'model.roi_head.shared_head.{name}': value for name, value in wanted.items()}
    return curable('other-region-stage', text, settings, case.cfg)


RULES = (
    mm_sync_bn,
    frozen_stages,
    frozen_norm,
    norm_eval,
    small_batch,
    resnet_variant,
    other_region_stage,
)
