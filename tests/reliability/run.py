"""Kill, starve and corrupt real pre-training runs, and count what is lost.

    python tests/reliability/run.py --kills 20
    python tests/reliability/run.py --only disk_full lost_worker

Every fault hits a tiny run of the published recipe (by epochs) and one of the quickstart's (by
iterations), each started by tools/train.py as its own process. A run has survived a fault if, resumed, it
ends with the weights, optimiser, schedules and logged curve of a run without the fault, in every bit.
Exit code 1 if any is lost.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bad_files import UNUSABLE, USABLE
from conftest import draw_images
from mcl_mm.files import unfinished
from tiny_runs import (
    CONTEXT,
    WORKERS,
    check_same_run,
    fault,
    final_state,
    run,
    start,
    wait,
    write_config,
)

FAULTS: dict[str, Callable] = {}
RECIPES = ('by_epoch', 'by_iter')


class Bench:
    """A recipe, its run without faults, and fresh folders for runs with them.

    Args:
        folder (Path): For everything.
        by_epoch (bool): The published recipe; otherwise the quickstart's.
    """

    def __init__(self, folder: Path, by_epoch: bool) -> None:
        self.folder = folder / ('by_epoch' if by_epoch else 'by_iter')
        self.folder.mkdir()
        images = draw_images(self.folder / 'images', 9)
        self.config = write_config(self.folder, images, by_epoch)
        self.whole = self.folder / 'whole'
        self.count = self.mid_save = 0
        imports = CONTEXT.Process(target=time.time)
        imports.start()
        imports.join()
        begin = time.monotonic()
        run(self.config, self.whole)
        self.seconds = time.monotonic() - begin

    def work_dir(self) -> Path:
        """A new one."""
        self.count += 1
        return self.folder / f'run_{self.count}'

    def run(self, work_dir: Path, *options: str, **kwargs) -> str:
        """Start or resume a run; see :func:`tiny_runs.run`."""
        return run(self.config, work_dir, *options, **kwargs)

    def finish(self, work_dir: Path, *options: str) -> str:
        """Resume a run; raise unless it ends as the one without faults."""
        output = self.run(work_dir, *options)
        check_same_run(work_dir, self.whole)
        return output


def expect(output: str, words: str) -> None:
    """Raise unless the run has said so."""
    assert words in output, f'did not say {words!r}'


def register(function: Callable) -> Callable:
    """Register a fault: a generator that yields after each one survived."""
    FAULTS[function.__name__] = function
    return function


def workers() -> list[str]:
    """None, or two, by lot."""
    return random.choice([[], list(WORKERS)])


@register
def kill(bench: Bench, times: int) -> Iterator[None]:
    """SIGKILL at a random moment, every other time while a checkpoint is being written."""
    while times:
        work_dir, killed = bench.work_dir(), 0
        while times:
            process = start(bench.config, work_dir, *workers())
            process.join(random.uniform(0.05, 1) * bench.seconds)
            if killed % 2:  # from now on as soon as a file is unfinished
                while process.is_alive() and not unfinished(work_dir):
                    time.sleep(0.0005)
            if not process.is_alive():
                break  # came to its end first
            process.kill()
            process.join()
            bench.mid_save += bool(unfinished(work_dir))
            killed, times = killed + 1, times - 1
        bench.finish(work_dir)
        yield from [None] * killed


@register
def stop(bench: Bench, times: int) -> Iterator[None]:
    """SIGTERM, SIGUSR1 or SIGINT in a random iteration: saves at once and exits with code 75."""
    for _ in range(times):
        work_dir, at = bench.work_dir(), random.randrange(11)
        number = random.choice(['SIGTERM', 'SIGUSR1', 'SIGINT'])
        bench.run(work_dir, *fault(at, number), *workers(), code=75)
        saved = final_state(work_dir)['meta']['iter']
        assert saved == at + 1, f'saved after {saved} iterations, stopped in number {at + 1}'
        bench.finish(work_dir)
        yield


@register
def damaged_checkpoint(bench: Bench, times: int) -> Iterator[None]:
    """The newest checkpoint is cut off, or a byte in it has changed; its date is in 1970."""
    for index in range(times):
        work_dir = bench.work_dir()
        bench.run(work_dir, *fault(10), code=1)
        newest = Path((work_dir / 'last_checkpoint').read_text())
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes(content if index % 2 else content[: random.randrange(len(content))])
        os.utime(newest, (0, 0))
        expect(bench.finish(work_dir), f'Skipping the checkpoint {newest}')
        yield


@register
def disk_full(bench: Bench, times: int) -> Iterator[None]:
    """No room for a checkpoint from some moment on: a tmpfs, or a limit on the size of files."""
    for _ in range(times):
        work_dir = bench.work_dir()
        with small_disk(work_dir) as mounted:
            bench.run(work_dir, *fault(5), code=1)
            newest = Path((work_dir / 'last_checkpoint').read_text())
            room = newest.stat().st_size // 2
            if mounted:
                free = shutil.disk_usage(work_dir).free
                (work_dir / 'full').write_bytes(b'0' * (free - room))
            process = start(bench.config, work_dir)
            if not mounted:
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, room))
            output = wait(process, work_dir, code=1)
            expect(output, 'could not be written')
            expect(output, 'Training goes on')
            assert Path((work_dir / 'last_checkpoint').read_text()) == newest
            (work_dir / 'full').unlink(missing_ok=True)
            bench.finish(work_dir)
        yield


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Put a file system of 64 MiB there; gives False if this user may not."""
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', str(folder)]
    mounted = bool(shutil.which('mount')) and not subprocess.run(command).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(['umount', str(folder)], check=True)


@register
def clock_jump(bench: Bench, times: int) -> Iterator[None]:
    """The clock jumps a day back or forth at every look; stopped and resumed meanwhile."""
    for _ in range(times):
        work_dir, clock = bench.work_dir(), fault(2, 'clock', name='clock')
        bench.run(work_dir, *clock, *fault(6, 'SIGTERM'), code=75)
        bench.finish(work_dir, *clock)
        yield


@register
def lost_worker(bench: Bench, times: int) -> Iterator[None]:
    """A data worker is killed, as by the out-of-memory killer: the run ends, and says why."""
    for _ in range(times):
        work_dir = bench.work_dir()
        process = start(bench.config, work_dir, *WORKERS, 'train_dataloader.prefetch_factor=1')
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
        while not (pids := data_workers(children)):
            assert process.is_alive(), 'ended before it had workers'
            time.sleep(0.02)
        os.kill(random.choice(pids), signal.SIGKILL)
        output = wait(process, work_dir, code=1, timeout=60)
        expect(output, 'Go on from the last checkpoint')
        bench.finish(work_dir)
        yield


def data_workers(children: Path) -> list[int]:
    """Children of a run that are its data workers: those left its process group."""
    workers = []
    for pid in map(int, children.read_text().split() if children.exists() else ()):
        with contextlib.suppress(ProcessLookupError):  # a helper of the start that has ended
            if os.getpgid(pid) == pid:
                workers.append(pid)
    return workers


@register
def not_finite(bench: Bench, times: int) -> Iterator[None]:
    """Features overflow: the run stops before the update, and the step is repeated from its state."""
    for _ in range(times):
        work_dir, at = bench.work_dir(), random.randrange(12)
        expect(
            bench.run(work_dir, *fault(at, 'overflow'), code=1), f'iteration {at + 1}: not finite'
        )
        bench.run(work_dir, resume=str(work_dir / f'nonfinite_iter_{at + 1}/state.pth'))
        check_same_run(work_dir, bench.whole)
        yield


@register
def corrupt_file(bench: Bench, times: int) -> Iterator[None]:
    """A folder with a file of every kind, see bad_files.py: ``bad_images.txt`` lists the unusable ones.

    The run is stopped and resumed, with and without workers; it ends as one that was not.
    """
    images = bench.folder / 'corrupt'
    good = [path.relative_to(images) for path in draw_images(images / 'good', 10).iterdir()]
    usable = [write_kind(images, name, *USABLE[name][:2]) for name in USABLE]
    unusable = [write_kind(images, name, *UNUSABLE[name][:2]) for name in UNUSABLE]
    files = bench.folder / 'corrupt.txt'
    files.write_text(''.join(f'{path}\n' for path in (*good, *usable, *unusable)))
    options = [
        f'train_dataloader.dataset.data_root={images}',
        f'train_dataloader.dataset.ann_file={files}',
        'train_dataloader.batch_size=4',  # 9 iterations an epoch
        'default_hooks.bad_images.max_share=0.5',
        'default_hooks.bad_images.interval=1',
    ]
    whole, work_dir = bench.work_dir(), bench.work_dir()
    bench.run(whole, *options)
    bench.run(work_dir, *options, *WORKERS, *fault(8, 'SIGTERM'), code=75)
    bench.run(work_dir, *options)
    check_same_run(work_dir, whole)
    listed = [line.split('\t') for line in (work_dir / 'bad_images.txt').read_text().splitlines()]
    reasons = {os.path.relpath(path, images): reason for path, reason in listed}
    assert len(reasons) == len(listed), 'a file is listed twice'
    for name, path in zip(UNUSABLE, unusable):
        reason = reasons.pop(path, 'not listed')
        assert reason.startswith(UNUSABLE[name][2]), f'{name}: {reason}'
    assert not reasons, f'can be used but are listed: {reasons}'
    yield from [None] * times


def write_kind(images: Path, name: str, file_name: str, write: Callable) -> str:
    """Write a file of a kind into a folder of its own; returns its path below ``images``."""
    folder = images / name.replace(' ', '_')
    folder.mkdir()
    write(folder / file_name)
    return f'{folder.name}/{file_name}'


def tries(name: str, kills: int, others: int) -> int:
    """How often a fault is tried with one recipe."""
    return {'kill': kills, 'corrupt_file': len(USABLE) + len(UNUSABLE)}.get(name, others)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--kills', type=int, default=20, help='of all recipes together')
    parser.add_argument('--times', type=int, default=2, help='of each other fault and recipe')
    parser.add_argument('--only', nargs='+', choices=FAULTS, default=list(FAULTS))
    parser.add_argument('--recipes', nargs='+', choices=RECIPES, default=RECIPES)
    parser.add_argument('--seed', type=int, default=0, help='of the moments')
    args = parser.parse_args()
    os.environ.update(OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', CUDA_VISIBLE_DEVICES='')
    random.seed(args.seed)
    all_lost = 0
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(Path(folder), recipe == 'by_epoch') for recipe in args.recipes]
        for name in args.only:
            tried = survived = 0
            for bench in benches:
                times = tries(name, -(-args.kills // len(benches)), args.times)
                tried += times
                try:
                    for _ in FAULTS[name](bench, times):
                        survived += 1
                except Exception as error:
                    print(f'{name}, {bench.config.stem}: {error}', flush=True)
            lost = tried - survived
            all_lost += lost
            line = f'{name:20} tried {tried:3}  survived {survived:3}  lost {lost:3}'
            if name == 'kill':
                line += f'  ({sum(bench.mid_save for bench in benches)} amid a checkpoint)'
            print(line, flush=True)
    sys.exit(bool(all_lost))


if __name__ == '__main__':
    main()
