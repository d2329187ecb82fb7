"""Training runs of a comparison: their configs, that they will not fail late, and their results."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mmengine.config import Config
from mmengine.registry import DefaultScope

from mcl_mm.engine.intact_checkpoint import progress
from mcl_mm.engine.run import adapt_to_machine, check_length, load_config, start
from mcl_mm.files import make_folder, write_text
from mcl_mm.models.modules import unwrap
from mcl_mm.parent import END_WITH_INPUT
from mcl_mm.reading import building

from .ledger import Record, locked
from .run_log import last_evaluation, read_scalars

LOG = 'train.log'  # what a run prints, in its folder
RESULT = 'result.json'
STARTED = 'started.json'  # what a run that is not done belongs to


def write_config(cfg: Config, path: Path, seed: int) -> None:
    """The config of one run: ``cfg`` with a seed of its own."""
    cfg = Config(cfg.to_dict())
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    cfg.dump(path)


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
    check_length(cfg)
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
    with (
        building(str(config)),
        tempfile.TemporaryDirectory() as folder,
        DefaultScope.overwrite_default_scope('mmengine'),
    ):
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
    make_folder(folder)
    with tempfile.TemporaryFile(dir=folder):
        pass
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f'the checkpoints of this comparison take at least {needed / 2**30:.1f} GiB, and {folder} has '
            f'{free / 2**30:.1f} GiB left: make room, or give another --work-dir'
        )


class Run(NamedTuple):
    """One training of a comparison.

    Attributes:
        folder (Path): Its own; ``config.py`` is there before it starts.
        weights (str): Digest of what it starts from, if that is a file.
        record (Record, optional): Its place in a ledger.
        gpus (int): Processes.
    """

    folder: Path
    weights: str = ''
    record: Optional[Record] = None
    gpus: int = 1

    def belongs_to(self) -> dict[str, str]:
        """What its files are of: a config, weights and processes, and by a ledger also data."""
        processes = f'{self.gpus} processes' if self.gpus > 1 else ''
        text = (self.folder / 'config.py').read_text() + self.weights + processes
        digest = dict(digest=hashlib.sha256(text.encode()).hexdigest())
        return dict(digest, identity=self.record.facts['identity']) if self.record else digest

    def here(self) -> Optional[dict]:
        """The result in its folder, if it is this run's."""
        result = read_json(self.folder / RESULT)
        return result if is_of(result, self.belongs_to()) else None

    def result(self) -> Optional[dict]:
        """``metrics`` and ``minutes`` of a run that is done, here or by the ledger; None otherwise."""
        result = self.here()
        if result is None:
            return self.record.entry() if self.record else None
        self.write_down(result)
        return result

    def write_down(self, result: dict) -> None:
        """Add it to the ledger, if there is one that does not know it yet."""
        if self.record:
            self.record.add(result['metrics'], result.get('minutes'))

    def announce(self, result: Optional[dict]) -> None:
        """Print where its log will be, or that it is done."""
        print(
            f'   log: {self.folder / LOG}' if result is None else '   finished earlier', flush=True
        )


def read_json(path: Path) -> dict:
    """A dict that was written to a file; empty if there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def is_of(files: dict, run: dict[str, str]) -> bool:
    """Whether what a folder says of its files is a run's. One without a ledger wrote no identity."""
    return 'digest' in files and all(files.get(key, value) == value for key, value in run.items())


def train(
    run: Run, read: Callable[[list[dict]], dict[str, float]] = last_evaluation
) -> dict[str, float]:
    """Run ``config.py`` of a folder, unless that is done, and return what came out.

    Args:
        run (Run): Its folder gets logs, checkpoints and the result, its ledger the entry.
        read (Callable): Takes the result from the lines of the log. Defaults to
            :func:`last_evaluation`.

    Raises:
        RuntimeError: The run fails; says where its log is and how it ends.
    """
    if (known := run.result()) is not None:
        return known['metrics']
    return train_here(run, read)


def train_here(run: Run, read: Callable[[list[dict]], dict[str, float]]) -> dict[str, float]:
    """As :func:`train`, and the folder has its files afterwards, whatever a ledger knows.

    A run that was interrupted goes on from its last checkpoint.
    """
    with locked(run.folder, f'   waiting for another command that trains in {run.folder}'):
        known = run.here()
        if known is None:
            known = train_now(run, read)
    run.write_down(known)
    return known['metrics']


def train_now(run: Run, read: Callable[[list[dict]], dict[str, float]]) -> dict:
    """Train in a folder, and leave there what came out. Returns that."""
    folder, of = run.folder, run.belongs_to()
    planned = (folder / 'config.py').read_text()
    goes_on = is_of(read_json(folder / STARTED), of) and not only_evaluation_left(folder)
    if not goes_on:  # what is there is of other settings
        (folder / STARTED).unlink(missing_ok=True)
        for logs in folder.glob('*/vis_data'):
            shutil.rmtree(logs.parent)
        for file in (folder / 'last_checkpoint', *folder.glob('*.pth')):
            file.unlink(missing_ok=True)
        write_text(folder / STARTED, json.dumps(of))
    log = folder / LOG
    what = [str(folder / 'config.py'), '--work-dir', str(folder), '--resume']
    command = ['-m', 'mcl_mm', 'train', *what]
    if run.gpus > 1:
        launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={run.gpus}']
        command = [*launcher, *command, '--launcher', 'pytorch']
    started = time.monotonic()
    with open(log, 'a' if goes_on else 'w') as out:
        code = call(*command, stdout=out, stderr=subprocess.STDOUT).returncode
    # MMEngine has written the config again, as this machine takes it. The run goes by the planned one.
    (folder / 'config.py').write_text(planned)
    if code:
        raise RuntimeError(
            f'{folder} ended with exit code {code}, see {log}: ' + log.read_text()[-500:]
        )
    # How long an interrupted run took before is not known.
    minutes = None if goes_on else round((time.monotonic() - started) / 60, 2)
    result = dict(of, metrics=read(read_scalars(folder)), minutes=minutes)
    write_text(folder / RESULT, json.dumps(result))
    (folder / STARTED).unlink()
    return result


def only_evaluation_left(folder: Path) -> bool:
    """Whether an interrupted run has saved its last update; resumed, it would end without an evaluation."""
    last, cfg = folder / 'last_checkpoint', Config.fromfile(folder / 'config.py')
    if cfg.get('val_cfg') is None or not last.exists():
        return False
    done = progress(last.read_text().strip())
    return done is not None and done[0] >= (
        cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs
    )


def call(*arguments: str, **settings: Any) -> subprocess.CompletedProcess:
    """Run Python with this package, wherever that lies.

    A command of this package ends with this process, even if that is killed: its input ends then.
    """
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get('PYTHONPATH')])]
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths), END_WITH_INPUT: '1'}
    reader, writer = os.pipe()
    try:
        return subprocess.run([sys.executable, *arguments], env=env, stdin=reader, **settings)
    finally:
        os.close(reader)
        os.close(writer)
