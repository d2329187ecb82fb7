"""Several ways of pre-training on the same images: what does a detector make of each?"""

import hashlib
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mcl_mm.config import find_config, type_name
from mcl_mm.datasets import LabelledImages
from mcl_mm.engine import check_classes
from mcl_mm.registry import DATASETS, MODELS
from mcl_mm.transfer import check_load, to_mmdet
from mcl_mm.transfer.detector.fit import PARTS, carry

from .charts import plt
from .cost import multiply_adds, multiply_adds_of_peer, side_settings
from .peers import PEERS, derive_peer
from .run_log import images_per_second
from .runs import (
    announce,
    call,
    check_evaluates,
    check_room,
    fill,
    headline,
    is_done,
    rehearse,
    spread,
    start_from,
    train,
    write_config,
)

RANDOM = 'random'


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
        """One that trains longer by a factor; warm-up and decay keep their shares of the run."""
        cfg = Config(self.cfg.to_dict())
        key = 'max_iters' if 'max_iters' in cfg.train_cfg else 'max_epochs'
        before = cfg.train_cfg[key]
        cfg.train_cfg[key] = after = max(1, round(before * factor))
        schedule = cfg.param_scheduler
        for scheduler in schedule if isinstance(schedule, list) else [schedule]:
            stretch_scheduler(scheduler, after / before)
        cfg.default_hooks.checkpoint.interval = after
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
    first = methods[0].cost
    return [m.stretch(length * (first / m.cost if equal == 'compute' else 1)) for m in methods]


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
        if path in PEERS and not Path(path).exists():
            if not methods:
                raise ValueError(
                    f'{path} is derived from the first method, which must be an MCL config'
                )
            first = Config.fromfile(find_config(paths[0]))
            methods.append(prepare(derive_peer(first, path, data, gpus), path, data, gpus))
        else:
            file = find_config(path)
            methods.append(prepare(Config.fromfile(file), Path(file).stem, data, gpus))
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
        if len(images) < step:
            raise ValueError(f'{data} has {len(images)} images, a step of {name} takes {step}')
        if isinstance(images, LabelledImages):
            check_classes(images, MODELS.build(cfg.model))
        if type_name(cfg.model) in ('MCL', 'SupervisedMCL'):
            cost = multiply_adds(cfg.model, cfg.train_dataloader.batch_size, transform[key])[0]
        else:
            cost = multiply_adds_of_peer(cfg.model, [images[0]] * 8)
    return Method(name, cfg, cost, seen)


def check(methods: list[Method], detector: Config) -> None:
    """Refuse a comparison that would be unfair or would end, after hours, in weights of no use.

    Raises:
        ValueError: Methods of one name, that see different numbers of images, or whose backbone is not
            the detector's.
    """
    names = [method.name for method in methods]
    if len({*names, RANDOM}) <= len(names):
        raise ValueError(f'methods need different names, and none may be {RANDOM}: got {names}')
    seen = [method.images for method in methods]
    if max(seen) > 1.01 * min(seen):  # epochs may leave out a part of a batch
        seen = ', '.join(f'{method.name} {method.images:,}' for method in methods)
        raise ValueError(
            f'methods must see equally many images, but they see: {seen}. Give their configs the '
            'same batch size and iterations (or epochs)'
        )
    with DefaultScope.overwrite_default_scope(detector.get('default_scope', 'mmdet')):
        model = MODELS.build(detector.model)
    for method in methods:
        with DefaultScope.overwrite_default_scope('mcl_mm'):
            weights = to_mmdet(MODELS.build(method.cfg.model).state_dict())
        try:
            check_load(model, carry(weights, model, PARTS))
        except ValueError as error:
            raise ValueError(f'{method.name} does not fit the detector: {error}') from error


def compare_methods(
    methods: list[Method], detector: Config, seeds: int, out: Path, gpus: int
) -> dict[str, dict]:
    """Pre-train, export and fine-tune by each method with each seed, and fine-tune from random weights.

    Runs that are done are taken as they are. Leaves ``comparison.json`` and ``comparison.png``.

    Args:
        methods (list[Method]): From :func:`prepare`, of the lengths wanted.
        detector (Config): The detector's.
        seeds (int): Runs of each.
        out (Path): Folder of all runs.
        gpus (int): Processes of each run.

    Returns:
        dict[str, dict]: See :func:`table`.

    Raises:
        OSError, ValueError: It would fail. Before the first run, as far as that can be told.
        RuntimeError: A run has failed.
    """
    rehearse_all(methods, detector, seeds, out)
    rows = {RANDOM: dict(metrics=[])}
    for method in methods:
        rows[method.name] = dict(
            metrics=[], images_per_second=[], images=method.images, cost=method.cost
        )
    by_name = {method.name: method for method in methods}
    for seed in range(seeds):
        for name, row in rows.items():
            print(f'== {name}, seed {seed}', flush=True)
            folder = out / f'{name}-{seed}'
            if name in by_name:
                row['images_per_second'].append(pretrain(by_name[name], seed, folder, gpus))
            row['metrics'].append(finetune(detector, seed, folder, gpus))
    filled = iter(fill([run for row in rows.values() for run in row['metrics']], detector))
    for row in rows.values():
        row['metrics'] = [next(filled) for _ in row['metrics']]
    report = dict(detector=detector.filename, results=rows)
    (out / 'comparison.json').write_text(json.dumps(report, indent=1))
    plot(rows, out / 'comparison.png')
    return rows


def rehearse_all(methods: list[Method], detector: Config, seeds: int, out: Path) -> None:
    """Find out whether any of the runs would fail, or the disk would be full.

    Raises:
        OSError, ValueError: Why.
    """
    check_evaluates(detector)
    check_room(out, 0)
    needed = 0
    for method in methods:
        path = out / f'{method.name}-0' / 'pretrain' / 'config.py'
        write_config(method.cfg, path, 0)
        if not is_done(path.parent):
            needed += rehearse(path) * seeds
    path = out / f'{RANDOM}-0' / 'finetune' / 'config.py'
    write_config(start_from(detector, (), ''), path, 0)
    if not is_done(path.parent):
        needed += rehearse(path) * seeds * (1 + len(methods))
    check_room(out, needed)


def pretrain(method: Method, seed: int, folder: Path, gpus: int) -> Optional[float]:
    """Pre-train and export to ``folder/export.pth``, unless that is done.

    Returns:
        float, optional: Images a second, the median of the log's lines. None if it has none.
    """
    work_dir = folder / 'pretrain'
    write_config(method.cfg, work_dir / 'config.py', seed)
    announce(work_dir)
    rate = train(work_dir, '', gpus, images_per_second).get('images_per_second')
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    out = folder / 'export.pth'
    if not out.exists() or out.stat().st_mtime < checkpoint.stat().st_mtime:
        done = call(
            '-m', 'mcl_mm', 'export', str(checkpoint), str(out), text=True, capture_output=True
        )
        if done.returncode:
            raise RuntimeError(f'{checkpoint} cannot be exported: {done.stderr.strip()}')
    return rate


def finetune(detector: Config, seed: int, folder: Path, gpus: int) -> dict[str, float]:
    """Fine-tune from ``folder/export.pth``, from random weights if there is none.

    Returns:
        dict[str, float]: Metrics of the last evaluation.
    """
    export, work_dir = folder / 'export.pth', folder / 'finetune'
    parts = PARTS if export.exists() else ()
    digest = hashlib.sha256(export.read_bytes()).hexdigest() if parts else ''
    write_config(start_from(detector, parts, str(export)), work_dir / 'config.py', seed)
    announce(work_dir, digest)
    return train(work_dir, digest, gpus)


def table(rows: dict[str, dict]) -> str:
    """The comparison in Markdown.

    Args:
        rows (dict[str, dict]): Per method ``metrics`` (a list, one dict a seed), ``images_per_second``
            (likewise), ``images`` (int) and ``cost`` (multiply-adds per image); for random weights
            ``metrics`` alone.
    """
    metrics = headline(list(rows[RANDOM]['metrics'][0]))
    lines = [
        ['start', *metrics, 'images seen', 'G multiply-adds an image', 'T in all', 'images/s'],
        ['---'] * (len(metrics) + 5),
    ]
    for name, row in rows.items():
        line = [name, *(spread([run[metric] for run in row['metrics']]) for metric in metrics)]
        if 'cost' in row:
            rates = [rate for rate in row['images_per_second'] if rate is not None]
            line += [f'{row["images"]:,}', f'{row["cost"] / 1e9:.3g}']
            rate = f'{statistics.mean(rates):.3g}' if rates else ''
            line += [f'{row["images"] * row["cost"] / 1e12:.3g}', rate]
        lines.append(line + [''] * (len(metrics) + 5 - len(line)))
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def plot(rows: dict[str, dict], path: Path) -> None:
    """Every metric against the multiply-adds spent: a dot a seed, a bar their mean."""
    metrics = headline(list(rows[RANDOM]['metrics'][0]))[:3]
    figure, axes = plt.subplots(
        1, len(metrics), figsize=(5.5 * len(metrics), 4), squeeze=False, layout='constrained'
    )
    for axis, metric in zip(axes[0], metrics):
        for index, (name, row) in enumerate(rows.items()):
            values = [run[metric] for run in row['metrics']]
            spent = row.get('images', 0) * row.get('cost', 0) / 1e12
            colour = f'C{index}'
            axis.plot([spent] * len(values), values, '.', color=colour, alpha=0.5)
            axis.plot(spent, np.mean(values), '_', color=colour, markersize=18, label=name)
        axis.set(title=metric, xlabel='multiply-adds of pre-training, T')
    axes[0][-1].legend(fontsize='small')
    figure.savefig(path, dpi=110)
    plt.close(figure)
