"""Ways of pre-training: what they cost, how long they run, and whether they can be compared."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mcl_mm.config import find_config, type_name
from mcl_mm.datasets import LabelledImages
from mcl_mm.engine import check_classes
from mcl_mm.reading import building, read_config
from mcl_mm.registry import DATASETS
from mcl_mm.transfer import check_load, to_mmdet
from mcl_mm.transfer.detector.fit import PARTS, fit_to_detector
from mcl_mm.transfer.detector.settings import build, scope_of

from .cost import multiply_adds, multiply_adds_of_peer, side_settings
from .peers import PEERS, derive_peer
from .starts import RANDOM


class Method(NamedTuple):
    """A way of pre-training.

    Attributes:
        name (str): Of its config, without ``.py``.
        cfg (Config): Ready to train but for seed and folder.
        cost (float): Multiply-adds per image, forward and backward.
        images (int): That a run sees, each epoch's again.
    """

    name: str
    cfg: Config
    cost: float
    images: int

    def stretch(self, factor: float) -> 'Method':
        """One that trains longer by a factor; warm-up, decay and checkpoints keep their shares."""
        cfg = Config(self.cfg.to_dict())
        key = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
        before = cfg.train_cfg[key]
        cfg.train_cfg[key] = after = max(1, round(before * factor))
        schedule = cfg.get('param_scheduler') or []
        for scheduler in schedule if isinstance(schedule, list) else [schedule]:
            stretch_scheduler(scheduler, after / before)
        hooks = cfg.get('default_hooks') or {}
        saves = hooks.get('checkpoint') or dict(type='CheckpointHook', by_epoch=key == 'max_epochs')
        interval = saves.get('interval', -1)
        interval = min(interval, before) if interval > 0 else before
        interval = max(1, round(interval * after / before))
        saves = dict(saves, interval=interval, max_keep_ckpts=1)
        cfg.default_hooks = dict(hooks, checkpoint=saves)
        return self._replace(cfg=cfg, images=self.images * after // before)


def stretch_scheduler(scheduler: dict, factor: float) -> None:
    """Stretch one phase of a schedule, in place, to one iteration or epoch at least."""
    # Epochs are turned into iterations by MMEngine, where they need not be whole.
    whole = not scheduler.get('convert_to_iter_based')

    def scale(mark: float) -> float:
        return round(mark * factor) if whole else mark * factor

    for name in ('begin', 'end', 'T_max'):
        if name in scheduler:
            scheduler[name] = scale(scheduler[name])
    if 'milestones' in scheduler:
        scheduler['milestones'] = list(map(scale, scheduler['milestones']))
    if whole and 'end' in scheduler:
        scheduler['end'] = max(scheduler['end'], scheduler.get('begin', 0) + 1)
    if whole and 'T_max' in scheduler:
        scheduler['T_max'] = max(scheduler['T_max'], 1)


def stretch_all(methods: list[Method], length: float, equal: str) -> list[Method]:
    """Methods of the lengths wanted.

    Args:
        methods (list[Method]): By their configs.
        length (float): In lengths of the configs.
        equal (str): What all get as much of as the first: ``'images'`` or ``'compute'``.
    """
    if equal == 'images':
        return [method.stretch(length) for method in methods]
    spent = [method.cost * method.images for method in methods]
    return [method.stretch(length * (spent[0] / own)) for method, own in zip(methods, spent)]


def prepare_all(paths: Sequence[str], data: str, gpus: int = 1) -> list[Method]:
    """Open the configs of methods; a bare name of a peer stands for one derived from the first config.

    Args:
        paths (Sequence[str]): Configs, names of recipes, or of :data:`PEERS`.
        data (str): Folder of images.
        gpus (int): Processes of each run. Defaults to 1.

    Raises:
        OSError, ValueError: See :func:`prepare` and :func:`derive_peer`.
    """
    methods = []
    for path in paths:
        if path in PEERS and not Path(path).is_file():
            if not methods:
                raise ValueError(
                    f'{path} is derived from the first method, which must be an MCL config'
                )
            first = read_config(find_config(paths[0]))
            with building(paths[0]):
                peer = derive_peer(first, path, data, gpus)
                methods.append(prepare(peer, path, data, gpus))
        else:
            file = find_config(path)
            with building(path):
                methods.append(prepare(read_config(file), Path(file).stem, data, gpus))
    return methods


def prepare(cfg: Config, name: str, data: str, gpus: int = 1) -> Method:
    """Put the images into a method's config, and find out what it costs and how long it runs.

    Args:
        cfg (Config): Changed in place.
        name (str): For people.
        data (str): Folder of images.
        gpus (int): Processes of a run. Defaults to 1.

    Raises:
        OSError, ValueError: It is no config of pre-training, or does not fit the images.
    """
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    settings = list(side_settings(dataset.get('pipeline')))
    if 'data_root' not in dataset or not settings:
        raise ValueError(
            f'{cfg.filename} is not a config of pre-training: its data needs a data_root, and views from '
            'RandomResizedCrop or NativeViews'
        )
    dataset.data_root = data
    transform, key = settings[0]
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        images = DATASETS.build(dataset)
        step = cfg.train_dataloader.batch_size * gpus
        if 'max_iters' in cfg.train_cfg:
            seen = cfg.train_cfg.max_iters * step
        else:
            seen = cfg.train_cfg.max_epochs * (len(images) // step) * step
        if isinstance(images, LabelledImages):
            check_classes(images, build(cfg.model, 'mcl_mm'))
        if len(images) < step:
            raise ValueError(f'{data} has {len(images)} images, a step of {name} takes {step}')
        if type_name(cfg.model) in ('DistilledMCL', 'MCL', 'SupervisedMCL'):
            cost = multiply_adds(cfg.model, cfg.train_dataloader.batch_size, transform[key])[0]
        else:
            cost = multiply_adds_of_peer(cfg.model, [images[0]] * 8)
    return Method(name, cfg, cost, seen)


def check(methods: list[Method], detector: Config, equal: str) -> None:
    """Refuse a comparison that would be unfair or would end, after hours, in weights of no use.

    Args:
        methods (list[Method]): By their configs.
        detector (Config): The detector's.
        equal (str): What all are to get as much of: ``'images'`` or ``'compute'``.

    Raises:
        ValueError: Methods of one name, whose backbone is not the detector's, or that see different
            numbers of images where these are to be equal.
    """
    names = [method.name for method in methods]
    if len({*names, RANDOM}) <= len(names):
        raise ValueError(f'methods need different names, and none may be {RANDOM}: got {names}')
    seen = [method.images for method in methods]
    if equal == 'images' and max(seen) > 1.01 * min(seen):  # epochs may leave out a part of a batch
        seen = ', '.join(f'{method.name} {method.images:,}' for method in methods)
        raise ValueError(
            f'methods must see equally many images, but they see: {seen}. Give their configs the '
            'same batch size and iterations (or epochs), or take --equal compute'
        )
    model = build(detector.model, scope_of(detector))
    for method in methods:
        weights = to_mmdet(build(method.cfg.model, 'mcl_mm').state_dict())
        try:
            check_load(model, fit_to_detector(weights, model, PARTS))
        except ValueError as error:
            raise ValueError(f'{method.name} does not fit the detector: {error}') from error
