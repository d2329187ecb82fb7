"""Kill, starve and corrupt real pre-training runs, and count what is lost.

    python tests/reliability/run.py --kills 20
    python tests/reliability/run.py --only disk_full lost_worker

Every fault hits a tiny run of the published recipe (by epochs) and one of the quickstart's (by
iterations), each started by tools/train.py as its own process. A run has survived a fault if, resumed, it
ends with the weights, optimiser, schedules and logged curve of a run without the fault, in every bit.
Exit code 1 if any is lost.
"""

import argparse
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

from conftest import draw_images
from tiny_runs import curves, difference, final_state, start, write_config

FAULTS: dict[str, Callable] = {}
WORKERS = ['train_dataloader.num_workers=2', 'train_dataloader.persistent_workers=True']
RECIPES = ('by_epoch', 'by_iter')
TIMEOUT = 240  # seconds for a run of a few; one that hangs is lost


class LostError(Exception):
    """What went wrong."""


class Bench:
    """A recipe, its run without faults, and fresh folders for runs with them.

    Args:
        folder (Path): For everything.
        by_epoch (bool): The published recipe; otherwise the quickstart's.
    """

    def __init__(self, folder: Path, by_epoch: bool) -> None:
        self.folder = folder / ('by_epoch' if by_epoch else 'by_iter')
        self.folder.mkdir()
        images = draw_images(self.folder / 'images', 26)
        self.config = write_config(self.folder, images, by_epoch, iters=18)
        begin = time.monotonic()
        self.whole = self.folder / 'whole'
        self.run(self.whole)
        self.seconds = time.monotonic() - begin
        self.count = 0

    def work_dir(self) -> Path:
        """A new one."""
        self.count += 1
        return self.folder / f'run_{self.count}'

    def start(self, work_dir: Path, *options: str) -> subprocess.Popen:
        """Start or resume the run."""
        return start(
            self.config, work_dir, '--resume', *(['--cfg-options', *options] if options else [])
        )

    def run(self, work_dir: Path, *options: str, code: int = 0) -> str:
        """Start or resume the run and wait for its end; returns what it printed."""
        process = self.start(work_dir, *options)
        try:
            found = process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise LostError(f'hangs, see {work_dir}.log') from None
        output = Path(f'{work_dir}.log').read_text(errors='replace')
        if found != code:
            raise LostError(f'exit code {found} instead of {code}: {output.splitlines()[-1:]}')
        return output

    def check(self, work_dir: Path) -> None:
        """Raise unless the run ended as the one without faults."""
        for part in ('state_dict', 'optimizer', 'param_schedulers'):
            where = difference(final_state(work_dir)[part], final_state(self.whole)[part], part)
            if where:
                raise LostError(f'{where} differs from a run without faults')
        if curves(work_dir) != curves(self.whole):
            raise LostError('the logged curve differs from that of a run without faults')


def expect(output: str, words: str) -> None:
    """Raise unless the run has said so."""
    if words not in output:
        raise LostError(f'did not say {words!r}')


def fault(function: Callable) -> Callable:
    """Register a fault: a generator that yields after each one survived."""
    FAULTS[function.__name__] = function
    return function


@fault
def kill(bench: Bench, times: int) -> Iterator[None]:
    """SIGKILL at a random moment between start and end; with 0 or 2 workers, by lot."""
    while times:
        work_dir = bench.work_dir()
        killed = 0
        while times:
            process = bench.start(work_dir, *random.choice([[], WORKERS]))
            try:
                process.wait(random.uniform(0.3, 1) * bench.seconds)
                break  # came to its end first
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
                times -= 1
        bench.run(work_dir)
        bench.check(work_dir)
        yield from [None] * killed


@fault
def stop(bench: Bench, times: int) -> Iterator[None]:
    """SIGTERM, SIGUSR1 or SIGINT in a random iteration: saves at once and exits with code 75."""
    for _ in range(times):
        work_dir, at = bench.work_dir(), random.randrange(17)
        number = random.choice(['SIGTERM', 'SIGUSR1', 'SIGINT'])
        bench.run(work_dir, 'default_hooks.fault.type=FaultHook', f'default_hooks.fault.at={at}',
                  f'default_hooks.fault.what={number}', *random.choice([[], WORKERS]), code=75)  # fmt: skip
        if final_state(work_dir)['meta']['iter'] != at + 1:
            raise LostError('did not save within one iteration')
        bench.run(work_dir)
        bench.check(work_dir)
        yield


@fault
def damaged_checkpoint(bench: Bench, times: int) -> Iterator[None]:
    """The newest checkpoint is cut off, or a byte in it has changed; its date is in 1970."""
    for index in range(times):
        work_dir = bench.work_dir()
        bench.run(
            work_dir, 'default_hooks.fault.type=FaultHook', 'default_hooks.fault.at=14', code=1
        )
        newest = Path((work_dir / 'last_checkpoint').read_text())
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes(content if index % 2 else content[: random.randrange(len(content))])
        os.utime(newest, (0, 0))
        expect(bench.run(work_dir), f'Skipping the checkpoint {newest}')
        bench.check(work_dir)
        yield


@fault
def disk_full(bench: Bench, times: int) -> Iterator[None]:
    """No room for a checkpoint from some moment on (tmpfs), or for such large files (rlimit)."""
    for _ in range(times):
        work_dir = bench.work_dir()
        work_dir.mkdir()
        mounted = mount(work_dir, 64)
        try:
            stop_at = ['default_hooks.fault.type=FaultHook', 'default_hooks.fault.at=9']
            bench.run(work_dir, *stop_at, code=1)
            newest = Path((work_dir / 'last_checkpoint').read_text())
            size = newest.stat().st_size
            if mounted:
                free = shutil.disk_usage(work_dir).free
                (work_dir / 'full').write_bytes(b'0' * (free - size // 2))
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, resource.RLIM_INFINITY))
            try:
                output = bench.run(work_dir, code=1)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            expect(output, 'could not be written')
            expect(output, 'Training goes on')
            if Path((work_dir / 'last_checkpoint').read_text()) != newest or not newest.exists():
                raise LostError('the last good checkpoint')
            (work_dir / 'full').unlink(missing_ok=True)
            bench.run(work_dir)
            bench.check(work_dir)
        finally:
            if mounted:
                subprocess.run(['umount', str(work_dir)], check=True)
        yield


def mount(folder: Path, mebibytes: int) -> bool:
    """Put a small file system there; False if this user may not."""
    command = ['mount', '-t', 'tmpfs', '-o', f'size={mebibytes}m', 'tmpfs', str(folder)]
    return shutil.which('mount') and not subprocess.run(command, capture_output=True).returncode


@fault
def clock_jump(bench: Bench, times: int) -> Iterator[None]:
    """The clock jumps a day back or forth at every look; stopped and resumed meanwhile."""
    for _ in range(times):
        work_dir = bench.work_dir()
        clock = ['default_hooks.clock.type=FaultHook', 'default_hooks.clock.at=2',
                 'default_hooks.clock.what=clock']  # fmt: skip
        bench.run(work_dir, *clock, 'default_hooks.fault.type=FaultHook', 'default_hooks.fault.at=10',
                  'default_hooks.fault.what=SIGTERM', code=75)  # fmt: skip
        bench.run(work_dir, *clock)
        bench.check(work_dir)
        yield


@fault
def lost_worker(bench: Bench, times: int) -> Iterator[None]:
    """A data worker is killed, as by the out-of-memory killer: the run ends, and says why."""
    for _ in range(times):
        work_dir = bench.work_dir()
        process = bench.start(work_dir, *WORKERS, 'train_dataloader.prefetch_factor=1')
        children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
        deadline = time.monotonic() + TIMEOUT
        while not (workers := data_workers(children)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise LostError('ended before it had workers')
            time.sleep(0.02)
        os.kill(random.choice(workers), signal.SIGKILL)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise LostError('hangs without its worker') from None
        if code != 1:
            raise LostError(f'exit code {code} instead of 1')
        expect(Path(f'{work_dir}.log').read_text(), 'Go on from the last checkpoint')
        bench.run(work_dir)
        bench.check(work_dir)
        yield


def data_workers(children: Path) -> list[int]:
    """Children of a run that are its data workers: those left its process group."""
    pids = map(int, children.read_text().split()) if children.exists() else []
    return [pid for pid in pids if os.getpgid(pid) == pid]


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
    random.seed(args.seed)
    counts = {name: [0, 0] for name in args.only}
    with tempfile.TemporaryDirectory() as folder:
        benches = [Bench(Path(folder), recipe == 'by_epoch') for recipe in args.recipes]
        for name, count in counts.items():
            for bench in benches:
                tried = args.kills // len(benches) if name == 'kill' else args.times
                count[0] += tried
                try:
                    for _ in FAULTS[name](bench, tried):
                        count[1] += 1
                        print(f'{name}, {bench.config.stem}: survived', flush=True)
                except LostError as error:
                    print(f'{name}, {bench.config.stem}: {error}', flush=True)
            tried, survived = count
            print(
                f'{name:20} tried {tried:3}  survived {survived:3}  lost {tried - survived:3}',
                flush=True,
            )
    sys.exit(any(tried != survived for tried, survived in counts.values()))


if __name__ == '__main__':
    main()
