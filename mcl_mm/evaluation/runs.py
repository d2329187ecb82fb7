"""Training runs of a comparison: their configs, that they will not fail late, and their results."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import METRICS, DefaultScope, Registry

from mcl_mm.config import type_name
from mcl_mm.engine.run import adapt_to_machine, load_config, start
from mcl_mm.files import atomic_path
from mcl_mm.models.modules import unwrap
from mcl_mm.transfer.detector.sources import SOURCES

from .run_log import last_evaluation, read_scalars

LOG = 'train.log'  # what a run prints, in its folder


def is_file(source: object) -> bool:
    """Whether an ``init_cfg``, or an older ``pretrained``, reads weights from a file."""
    if isinstance(source, (list, tuple)):
        return any(map(is_file, source))
    return isinstance(source, str) or (
        isinstance(source, dict) and type_name(source).startswith('Pretrained')
    )


def write_config(cfg: Config, path: Path, seed: int) -> None:
    """The config of one run: ``cfg`` with a seed of its own."""
    cfg = Config(cfg.to_dict())
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(path)


def start_from(cfg: Config, parts: Sequence[str], weights: str) -> Config:
    """A detector's config with a start of its own.

    Args:
        cfg (Config): A detector's. Not changed.
        parts (Sequence[str]): What to take from the weights; nothing is a start from random ones.
        weights (str): The file.
    """
    cfg = Config(cfg.to_dict())
    # A second source of weights would make no start what its name says.
    for part in filter(None, (cfg.model, cfg.model.backbone, cfg.model.get('neck'))):
        for one in part if isinstance(part, list) else [part]:
            for source in SOURCES:
                if is_file(one.get(source)):
                    one[source] = None
    if 'base_batch_size' in cfg.get('auto_scale_lr', {}):
        cfg.auto_scale_lr.enable = True  # the config's rate is for its own number of GPUs
    cfg.load_from = os.path.abspath(weights) if parts else None
    others = [h for h in cfg.get('custom_hooks') or [] if type_name(h) != 'TransferHook']
    cfg.custom_hooks = [*others, dict(type='mcl_mm.TransferHook', parts=parts)] if parts else others
    return cfg


def check_evaluates(cfg: Config) -> None:
    """Refuse a detector's config whose training does not end in an evaluation.

    Raises:
        ValueError: Says what it lacks.
    """
    lacking = [k for k in ('val_dataloader', 'val_evaluator', 'val_cfg') if cfg.get(k) is None]
    if lacking:
        raise ValueError(
            f'{cfg.filename} has no {" and no ".join(lacking)}: a comparison needs an evaluation at the '
            'end of training'
        )
    length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters')
    if cfg.train_cfg.get('val_begin', 1) > length:
        raise ValueError(
            f'{cfg.filename} is never evaluated: train_cfg.val_begin is above its length of {length}'
        )


def rehearse(config: Path) -> int:
    """Set up a run up to its first iteration, with all that it will need at its end.

    Args:
        config (Path): Its config.

    Returns:
        int: Bytes that a checkpoint of it takes at least.

    Raises:
        OSError, ValueError: Why it would fail.
    """
    with tempfile.TemporaryDirectory() as folder, DefaultScope.overwrite_default_scope('mmengine'):
        cfg = load_config(str(config), folder, dict(log_level='ERROR'))
        # MMEngine hands what has the same name to the next run, and this folder will be gone.
        cfg.experiment_name = cfg.visualizer.name = Path(folder).name
        adapt_to_machine(cfg)
        # Runs of one name and second share MMEngine's visualizer, and with it a folder.
        cfg.experiment_name = Path(folder).name
        runner = start(cfg)
        try:
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
            runner.build_param_scheduler(runner.param_schedulers)
            runner.val_loop  # noqa: B018  (builds data and evaluator)
        finally:
            runner.end_quiet_start()  # what training would do
        model = unwrap(runner.model)
        learnt = [p for p in model.parameters() if p.requires_grad]
        return sum(t.nbytes for t in [*model.state_dict().values(), *learnt])


def check_room(folder: Path, needed: int) -> None:
    """Make a folder, and refuse one that cannot be written to or lies on a full disk.

    Raises:
        OSError: Says what there is to do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f'the checkpoints of this comparison take at least {needed / 2**30:.1f} GiB, and {folder} has '
            f'{free / 2**30:.1f} GiB left: make room, or give another --work-dir'
        )


def is_done(folder: Path, digest: str = '') -> bool:
    """Whether a run has a result, of just this config and these weights."""
    result = folder / 'result.json'
    return result.exists() and json.loads(result.read_text())['digest'] == identify(folder, digest)


def announce(folder: Path, digest: str = '') -> None:
    """Print where the log of a run will be, or that the run is done."""
    print(
        '   finished earlier' if is_done(folder, digest) else f'   log: {folder / LOG}', flush=True
    )


def identify(folder: Path, digest: str) -> str:
    """What a result belongs to: a config and weights."""
    return hashlib.sha256(f'{(folder / "config.py").read_text()}{digest}'.encode()).hexdigest()


def train(
    folder: Path,
    digest: str,
    gpus: int,
    read: Callable[[list[dict]], dict[str, float]] = last_evaluation,
) -> dict[str, float]:
    """Run ``folder/config.py``, unless that is done, and return what came out.

    Args:
        folder (Path): The run's; gets config, logs, checkpoints and ``result.json``.
        digest (str): Identifies the weights. A result of another config or weights does not count.
        gpus (int): Processes.
        read (Callable): Takes the result from the lines of the log. Defaults to
            :func:`last_evaluation`.

    Raises:
        RuntimeError: The run fails; says where its log is and how it ends.
    """
    result = folder / 'result.json'
    if is_done(folder, digest):
        return json.loads(result.read_text())['metrics']
    run = identify(
        folder, digest
    )  # before MMEngine writes the config again, as this machine takes it
    for earlier in folder.glob('*/vis_data'):  # of a run that was interrupted, or of other settings
        shutil.rmtree(earlier.parent)
    log = folder / LOG
    command = ['-m', 'mcl_mm', 'train', str(folder / 'config.py'), '--work-dir', str(folder)]
    if gpus > 1:
        launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={gpus}']
        command = [*launcher, *command, '--launcher', 'pytorch']
    with open(log, 'w') as out:
        code = call(*command, stdout=out, stderr=subprocess.STDOUT).returncode
    if code:
        raise RuntimeError(
            f'{folder} ended with exit code {code}, see {log}: ' + log.read_text()[-500:]
        )
    metrics = read(read_scalars(folder))
    with atomic_path(result) as path:
        Path(path).write_text(json.dumps(dict(digest=run, metrics=metrics)))
    return metrics


def call(*arguments: str, **settings: Any) -> subprocess.CompletedProcess:
    """Run Python with this package, wherever that lies."""
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get('PYTHONPATH')])]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
    return subprocess.run([sys.executable, *arguments], env=env, **settings)


def fill(results: list[dict[str, float]], cfg: Config) -> list[dict[str, float]]:
    """Results with the same metrics in each: one that was not logged is 0, for nothing was detected.

    Args:
        results (list[dict[str, float]]): Of all runs.
        cfg (Config): Of their detector, which says the names if no run has any.
    """
    names = list(dict.fromkeys(name for result in results for name in result))
    if not names:
        with METRICS.switch_scope_and_registry(cfg.get('default_scope', 'mmdet')) as registry:
            names = detection_metrics(cfg.val_evaluator, registry)
    return [{name: result.get(name, 0.0) for name in names} for result in results]


def detection_metrics(evaluator: Any, registry: Registry) -> list[str]:
    """What evaluators of COCO's kind call their overall metrics: ``coco/bbox_mAP`` and so on.

    Args:
        evaluator (Any): A config's ``val_evaluator``.
        registry (Registry): Of the detector's metrics.
    """
    names = []
    for metric in evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]:
        kinds = metric.get('metric', 'bbox')
        prefix = metric.get('prefix') or registry.get(metric['type']).default_prefix
        overall = 'AP' if prefix == 'lvis' else 'mAP'
        for kind in kinds if isinstance(kinds, (list, tuple)) else [kinds]:
            names.append(f'{prefix}/{kind}_{overall}')
    return names


def headline(names: list[str]) -> list[str]:
    """The metrics a paper would print: overall ones first by name, without sizes and thresholds."""
    chosen = [n for n in names if n.split('_')[-1].split('/')[-1] in ('mAP', 'AP', 'PQ', 'AP50')]
    return chosen or names


def spread(values: list[float]) -> str:
    """Mean and, of several values, sample standard deviation."""
    deviation = f' ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
    return f'{np.mean(values):.3f}{deviation}'
