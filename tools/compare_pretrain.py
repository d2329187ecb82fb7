"""Which pre-training helps a detector most, on the same images? Pre-train, export, fine-tune, compare.

    python tools/compare_pretrain.py --methods CONFIG [CONFIG ...] --data DIR --detector CONFIG [--seeds 3]
    python tools/compare_pretrain.py --methods configs/quickstart/{pretrain,mocov2,densecl,byol}.py \\
        --data my/images --detector configs/quickstart/retinanet_bccd.py --equal compute

Methods are configs of pre-training: MCL's own, and those of other methods in configs/peers and
configs/quickstart. All have to see the same number of images; with --equal compute, the others train
longer or shorter until they have spent the multiply-adds of the first. Each takes all that its export
has into the detector (backbone, and MCL's pyramid and box-head convs); random weights are the baseline.
Every run is a tools/train.py of its own; when called again, finished runs are taken as they are. Prints
a table and leaves comparison.json and comparison.png.

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from mmengine.config import Config, DictAction
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from torch.utils.flop_counter import FlopCounterMode

import mcl_mm  # noqa: F401  (checks the environment and registers the components)
from mcl_mm.datasets import LabelledImages
from mcl_mm.engine import check_classes
from mcl_mm.registry import DATASETS, MODELS
from mcl_mm.transfer import check_load, to_mmdet
from mcl_mm.transfer.detector.fit import PARTS, carry

matplotlib.use('Agg')
import matplotlib.pyplot as plt
from benchmark import multiply_adds, side_settings
from compare_transfer import TOOLS, headline, spread, train, write_config

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
            for name in ('begin', 'end', 'T_max', 'milestones'):
                if name in scheduler:
                    old = scheduler[name]
                    marks = old if isinstance(old, list) else [old]
                    # Epochs are turned into iterations by MMEngine, where they need not be whole.
                    scaled = [mark * after / before for mark in marks]
                    if not scheduler.get('convert_to_iter_based'):
                        scaled = list(map(round, scaled))
                    scheduler[name] = scaled if isinstance(old, list) else scaled[0]
        cfg.default_hooks.checkpoint.interval = after
        return self._replace(cfg=cfg, images=self.images * after // before)


def prepare(path: str, data: str) -> Method:
    """Open a method's config, put the images in, and find out what it costs and how long it runs.

    Raises:
        OSError, ValueError: It is no config of pre-training, or does not fit the images.
    """
    cfg = Config.fromfile(path)
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    settings = list(side_settings(dataset.get('pipeline')))
    if 'data_root' not in dataset or not settings:
        raise ValueError(
            f'{path} is not a config of pre-training: its data needs a data_root, and views from '
            'RandomResizedCrop or NativeViews'
        )
    dataset.data_root = data
    transform, key = settings[0]
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        images = DATASETS.build(dataset)
        batch = cfg.train_dataloader.batch_size
        if 'max_iters' in cfg.train_cfg:
            seen = cfg.train_cfg.max_iters * batch
        else:
            seen = cfg.train_cfg.max_epochs * (len(images) // batch) * batch
        if isinstance(images, LabelledImages):
            check_classes(images, MODELS.build(cfg.model))
        if cfg.model.type.split('.')[-1] in ('MCL', 'SupervisedMCL'):
            cost = multiply_adds(cfg.model, batch, transform[key])[0]
        else:
            cost = count([images[0]] * 8, cfg.model)
    return Method(Path(path).stem, cfg, cost, seen)


def count(samples: list[dict], model: dict) -> float:
    """Multiply-adds per image of a method's step, forward and backward, operator by operator.

    Args:
        samples (list[dict]): What the data set gives; enough for batch norm.
        model (dict): Config of a method of mmpretrain.
    """
    model = MODELS.build(model)
    with FlopCounterMode(display=False) as counter:
        data = model.data_preprocessor(default_collate(samples), True)
        model.parse_losses(model(**data, mode='loss'))[0].backward()
    return counter.get_total_flops() / 2 / len(samples)


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


def pretrain(method: Method, seed: int, folder: Path, gpus: int) -> float:
    """Pre-train and export to ``folder/export.pth``, unless that is done.

    Returns:
        float: Images a second, the median of the log's lines.
    """
    cfg = Config(method.cfg.to_dict())
    cfg.randomness = dict(cfg.get('randomness', {}), seed=seed)
    work_dir = folder / 'pretrain'
    work_dir.mkdir(parents=True, exist_ok=True)
    cfg.dump(work_dir / 'config.py')
    rate = train(work_dir, '', gpus, images_per_second)['images_per_second']
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    out = folder / 'export.pth'
    if not out.exists() or out.stat().st_mtime < checkpoint.stat().st_mtime:
        command = map(str, [sys.executable, TOOLS / 'export.py', checkpoint, out])
        done = subprocess.run(list(command), text=True, capture_output=True)
        if done.returncode:
            raise RuntimeError(f'{checkpoint} cannot be exported: {done.stderr.strip()}')
    return rate


def images_per_second(scalars: list[dict]) -> dict[str, float]:
    """The run's typical rate, from its log."""
    rates = [line['images_per_second'] for line in scalars if 'images_per_second' in line]
    return dict(images_per_second=statistics.median(rates))


def finetune(detector: Config, seed: int, folder: Path, gpus: int) -> dict[str, float]:
    """Fine-tune from ``folder/export.pth``, from random weights if there is none.

    Returns:
        dict[str, float]: Metrics of the last evaluation.
    """
    export, work_dir = folder / 'export.pth', folder / 'finetune'
    parts = PARTS if export.exists() else ()
    digest = hashlib.sha256(export.read_bytes()).hexdigest() if parts else ''
    write_config(detector, parts, str(export), seed, work_dir / 'config.py')
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
            rates = row['images_per_second']
            line += [f'{row["images"]:,}', f'{row["cost"] / 1e9:.3g}']
            line += [f'{row["images"] * row["cost"] / 1e12:.3g}', f'{statistics.mean(rates):.3g}']
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--methods', nargs='+', required=True, help='configs of pre-training')
    parser.add_argument(
        '--data', required=True, help='folder of images, for supervised ones a folder a class'
    )
    parser.add_argument('--detector', required=True, help="a detector's config")
    parser.add_argument('--seeds', type=int, default=3, help='runs of each (default: 3)')
    parser.add_argument(
        '--equal',
        choices=['images', 'compute'],
        default='images',
        help='what all get as much of as the first method (default: images)',
    )
    parser.add_argument(
        '--length', type=float, default=1, help='of the runs, in those of the configs (default: 1)'
    )
    parser.add_argument('--work-dir', type=Path, help='default: work_dirs/pretrain_DETECTOR_EQUAL')
    parser.add_argument('--gpus', type=int, default=1, help='processes of each run')
    parser.add_argument(
        '--detector-options', nargs='+', action=DictAction, help="settings of the detector's config"
    )
    args = parser.parse_args()
    default = f'work_dirs/pretrain_{Path(args.detector).stem}_{args.equal}'
    out = args.work_dir or Path(default)
    try:
        if args.seeds < 1 or args.length <= 0:
            raise ValueError('--seeds must be at least 1, and --length positive')
        detector = Config.fromfile(args.detector)
        detector.merge_from_dict(args.detector_options or {})
        methods = [prepare(path, args.data) for path in args.methods]
        check(methods, detector)
        shares = [
            methods[0].cost / method.cost if args.equal == 'compute' else 1 for method in methods
        ]
        methods = [m.stretch(args.length * share) for m, share in zip(methods, shares)]
        rows = {RANDOM: dict(metrics=[])}
        for method in methods:
            rows[method.name] = dict(
                metrics=[], images_per_second=[], images=method.images, cost=method.cost
            )
        for seed in range(args.seeds):
            for name, row in rows.items():
                print(f'== {name}, seed {seed}', flush=True)
                folder = out / f'{name}-{seed}'
                for method in methods:
                    if method.name == name:
                        rate = pretrain(method, seed, folder, args.gpus)
                        row['images_per_second'].append(rate)
                row['metrics'].append(finetune(detector, seed, folder, args.gpus))
    except Exception as error:  # configs are code, and raise anything
        sys.exit(f'{type(error).__name__}: {error}')
    out.mkdir(parents=True, exist_ok=True)
    plot(rows, out / 'comparison.png')
    report = dict(data=args.data, detector=args.detector, equal=args.equal, results=rows)
    (out / 'comparison.json').write_text(json.dumps(report, indent=1))
    print(f'\n{args.seeds} seed(s), mean ± standard deviation; equal {args.equal}\n\n{table(rows)}')
    print(f'\n{out / "comparison.json"}, {out / "comparison.png"}')


if __name__ == '__main__':
    main()
