"""Find out within seconds what would otherwise end, or spoil, a run of hours."""

import logging
from math import ceil

from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.dist import all_gather_object
from mmengine.evaluator import Evaluator
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mcl_mm.datasets import labelled_sets
from mcl_mm.datasets.settings import check_pixels
from mcl_mm.models import MCL, DistilledMCL, MontageModel
from mcl_mm.models.modules import is_batch_norm, unwrap
from mcl_mm.models.montage import Montage
from mcl_mm.registry import MODELS
from mcl_mm.transfer import check_load, check_sources, check_whole, diagnose, read_checkpoint
from mcl_mm.transfer.detector.rules.data import check_class_numbers, check_classes_known
from mcl_mm.transfer.formats.mmdet import from_mmdet, is_export

from .box_check import check_box_sizes
from .evaluated_images import check_evaluated_images
from .exact_resume import batches_done
from .label_check import check_labels
from .loop_check import check_loop, is_endless
from .runner_access import resumes, start_file
from .start_summary import view_sides
from .target_update_hook import TargetUpdateHook
from .teacher_check import check_teacher, check_teacher_views
from .transfer_hook import StartFromExport, TransferHook


def check_start(runner: Runner) -> None:
    """Build the data, try one batch of it, and compare the weights to load with the model.

    Args:
        runner (Runner): About to train.

    Raises:
        OSError: The images or the weights cannot be read.
        ValueError: They do not fit each other, the model or the batch size; a file of weights from
            outside needs code to be run; layers would not learn, or have lost their activation; a hook
            has nothing to do; hooks or the sampler do not go with the loop.
    """
    model = unwrap(runner.model)
    check_norms(model)
    check_normalising(model)
    check_target(runner, model)
    if isinstance(model, MontageModel) and not (start_file(runner) or resumes(runner)):
        check_learns(model.backbone)
    check_classes_known(runner.cfg)
    check_class_numbers(runner.cfg, 'val_dataloader')
    if isinstance(model, DistilledMCL):
        check_teacher(model.teacher)
        check_teacher_views(runner.train_loop.dataloader.dataset, model.teacher)
    check_loop(runner)
    check_data(runner, model)
    if resumes(runner):
        check_resume(runner, model)
    elif start_file(runner):
        check_load_from(runner, model)
    for source, report in check_sources(model, runner.cfg):  # parts with a file of their own
        where = f'model.{source.where}'.rstrip('.')
        print_log(f'Weights of {source.path} in {where}:\n{report.table()}', 'current')


def check_sides(cfg: Config) -> None:
    """Refuse sheets of a side that cannot be cut into cells, before anything is built.

    Raises:
        ValueError: A side is no multiple of 32 pixels.
    """
    kind = MODELS.get(str((cfg.get('model') or {}).get('type')))
    if not (isinstance(kind, type) and issubclass(kind, MontageModel)):
        return
    for side in view_sides(cfg):
        if side < 32 or side % 32:
            raise ValueError(
                f'the side of sheets must be a multiple of 32 pixels, got {side}: set side (NativeViews) or '
                f'scale (RandomResizedCrop) of the views to {max(1, round(side / 32)) * 32}'
            )


def check_target(runner: Runner, model: nn.Module) -> None:
    """Refuse a target that nothing moves, and a hook that has none to move."""
    moves = any(isinstance(hook, TargetUpdateHook) for hook in runner.hooks)
    if moves and not hasattr(model, 'update_target'):
        raise ValueError(
            f'a {type(model).__name__} has no target that TargetUpdateHook could move: set custom_hooks=[]'
        )
    if isinstance(model, MCL) and not moves:
        raise ValueError(
            "nothing would move the target: set custom_hooks=[dict(type='mcl_mm.TargetUpdateHook')]"
        )


def check_norms(model: nn.Module) -> None:
    """Refuse synchronised batch norm that was made of layers which do more than batch norm."""
    for name, module in model.named_modules():
        if type(module).__name__ == 'SyncBatchNorm' and any(module.children()):
            raise ValueError(
                f'{name} was batch norm with an activation, as timm has it in EfficientNets and RegNets; '
                'sync_bn has made plain SyncBatchNorm of it, without the activation. Set sync_bn=None, '
                'or take a backbone whose norms are plain, such as a ResNet'
            )


def check_normalising(model: nn.Module) -> None:
    """Refuse a mean and deviation, of any library's data preprocessor, that make images not finite."""
    preprocessor = getattr(model, 'data_preprocessor', None)
    found = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    check_pixels(*(v.flatten().tolist() if isinstance(v, Tensor) else None for v in found))


def check_learns(backbone: nn.Module) -> None:
    """Refuse layers that would stay as they were drawn at random."""
    init_cfg = getattr(backbone, 'init_cfg', None)
    if getattr(backbone, 'is_init', False) or 'Pretrained' in str(init_cfg):
        return
    backbone.train()
    for name, module in backbone.named_modules():
        still = is_batch_norm(module) and not module.training
        if still or (isinstance(module, nn.Conv2d) and not module.weight.requires_grad):
            fix = 'norm_eval=False' if still else 'frozen_stages=-1'
            raise ValueError(
                f'backbone.{name} would stay as it is at random: set model.backbone.{fix}, or start from '
                'weights'
            )


def check_data(runner: Runner, model: nn.Module) -> None:
    """Build the data; for pre-training, assemble one batch."""
    loader = runner.train_loop.dataloader
    if len(loader) == 0:
        raise ValueError(
            f'no batch to train on: {len(loader.dataset)} images do not fill one batch of '
            f'{loader.batch_size} on each of {runner.world_size} process(es). Lower '
            'train_dataloader.batch_size'
        )
    if isinstance(model, (MCL, DistilledMCL)) and loader.batch_size * runner.world_size < 2:
        raise ValueError(
            'one image has no negatives to be told from: raise train_dataloader.batch_size'
        )
    if isinstance(model, MontageModel):
        check_options(runner.cfg, model)
        check_batches(loader, model)
    check_labels(runner, labelled_sets(loader.dataset), model)
    check_box_sizes(loader.dataset)
    if runner.val_loop and hasattr(runner.val_loop, 'dataloader'):
        check_box_sizes(runner.val_loop.dataloader.dataset, evaluates=True)
        evaluator = getattr(runner.val_loop, 'evaluator', None)
        if isinstance(evaluator, Evaluator):
            check_evaluated_images(runner.val_loop.dataloader.dataset, evaluator, 'val_evaluator')


def check_options(cfg: Config, model: MontageModel) -> None:
    """Refuse options of MMEngine that do not go with how the model trains.

    Raises:
        ValueError: They do not.
    """
    for setting in ('compile', 'activation_checkpointing'):
        if model.early_backward and cfg.get(setting):
            raise ValueError(
                'early_backward computes gradients inside the forward pass, which does not work with '
                f'{setting}: leave one of them out'
            )
    track_level = getattr(getattr(model, 'neck', None), 'track_level', None)
    if track_level is not None and cfg.get('activation_checkpointing'):
        raise ValueError(
            'activation_checkpointing computes levels a second time, which would move running statistics '
            f'that neck.track_level={track_level} leaves alone: set activation_checkpointing=None, or '
            'model.neck.track_level=None'
        )


def check_batches(loader: DataLoader, model: MontageModel) -> None:
    """Assemble a batch of each size that will occur.

    Raises:
        ValueError: A size of which no montage can be made, or other sizes on other processes, whose
            targets could not be gathered.
    """
    shares = all_gather_object((len(loader.sampler), loader.batch_size))
    if len(set(shares)) > 1:
        raise ValueError(
            'all processes must get equally many images, but (images, batch size) are '
            f'{", ".join(map(str, shares))}. DefaultSampler sees to it unless round_up=False'
        )
    whole = is_endless(loader.sampler) or loader.drop_last
    last = 0 if whole else len(loader.sampler) % loader.batch_size
    if last == 1:
        raise ValueError(
            "an epoch's last batch would hold one image, too little for batch norm and without "
            'negatives: set train_dataloader.drop_last=True or another batch_size'
        )
    sample = loader.dataset[0]
    for size in {loader.batch_size, last} - {0}:
        sides = model.data_preprocessor(default_collate([sample] * size), training=True)['inputs']
        check_places(sides[0], model)


def check_places(montage: Montage, model: MontageModel) -> None:
    """Refuse sheets so small and few that batch norm would see one value a channel.

    Raises:
        ValueError: They are.
    """
    if not any(map(is_batch_norm, model.backbone.modules())):
        return
    for levels in model.level_groups:
        side = montage.sheets[levels[0]].shape[-1]
        count = sum(len(montage.sheets[level]) for level in levels)
        if count * ceil(side / 32) ** 2 < 2:
            raise ValueError(
                f'level {levels[0]} has one sheet of {side} pixels, on the coarsest map one value, and '
                'batch norm needs two: take sheets of at least 64 pixels (side or scale of the views), or '
                'a larger train_dataloader.batch_size'
            )


def check_resume(runner: Runner, model: nn.Module) -> None:
    """Refuse to resume from a file that is not a whole checkpoint of this model."""
    path = start_file(runner)
    if '://' in path:  # fetched by MMEngine later
        return
    checkpoint = read_checkpoint(path)
    if not checkpoint['resumable']:
        # The advice below has to work: the same judge that load_from will meet.
        check_load(model, own_names(model, checkpoint['state_dict']), path, runner.cfg)
        raise ValueError(
            f'{path} holds weights but not the state of a run. To start from weights, use '
            f'--cfg-options load_from={path} instead of --resume'
        )
    check_whole(model, checkpoint['state_dict'], path)
    batches_done(runner, checkpoint['meta'])


def own_names(model: nn.Module, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights under a model's names: a pre-training run continues an export as what it was."""
    if isinstance(model, MontageModel) and is_export(weights):
        return from_mmdet(weights)
    return weights


def check_load_from(runner: Runner, model: nn.Module) -> None:
    """Say what of a file will be used, and refuse one that does not belong to the model."""
    path = start_file(runner)
    checkpoint = read_checkpoint(path)
    if isinstance(model, MontageModel) or not hasattr(model, 'backbone'):
        weights = own_names(model, checkpoint['state_dict'])
        if weights is not checkpoint['state_dict']:
            runner.register_hook(StartFromExport())
        report = check_load(model, weights, path, runner.cfg)
        print_log(f'Weights of {path}:\n{report.table()}', 'current')
        return
    hook = next((hook for hook in runner.hooks if isinstance(hook, TransferHook)), None)
    parts = hook.parts if hook else None
    diagnosis = diagnose(model, checkpoint, runner.cfg, parts, runner.world_size)
    if hook is None or diagnosis.errors:  # else the hook says the same when the run loads the file
        level = logging.WARNING if diagnosis.traps or diagnosis.errors else logging.INFO
        print_log(f'Weights of {path}:\n{diagnosis.text()}', 'current', level=level)
    diagnosis.check()
