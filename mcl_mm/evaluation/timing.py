"""One turn of a benchmark: where a step spends its time, in this process."""

import contextlib
import ctypes
import functools
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

from mcl_mm.models import MCL, DistilledMCL, MontageModel

MMAP_THRESHOLD, MMAP_MAX = -3, -4  # M_MMAP_THRESHOLD and M_MMAP_MAX of glibc's malloc.h
PARTS = ('montage', 'online', 'target', 'loss', 'backward', 'optimiser', 'EMA', 'other')


class Candidate(NamedTuple):
    """What takes turns.

    Attributes:
        name (str): For people.
        cfg (Config): Ready for a Runner but for ``work_dir``.
        batch_size (int): Images a step.
        side (int): Of a sheet, in pixels.
    """

    name: str
    cfg: Config
    batch_size: int
    side: int


def measure(
    candidate: Candidate, steps: int, profile_to: Optional[str] = None
) -> dict[str, Optional[float]]:
    """Measure everything once, in this process.

    Args:
        candidate (Candidate): What.
        steps (int): Steps, and batches of an epoch, to time.
        profile_to (str, optional): Folder for PyTorch's profile of one more step. Defaults to None.

    Returns:
        dict: Rates in images a second, memory in GiB, the rest are shares. Shares of parts are None for
        a compiled step, which has none.
    """
    cfg, clock, stopwatch = candidate.cfg, EpochClock(), Stopwatch()
    with tempfile.TemporaryDirectory() as cfg.work_dir:
        runner = Runner.from_cfg(cfg)
        runner.register_hook(clock, 'LOWEST')  # what other hooks do is not waiting for data
        batch, data_rate = load_batch(runner.train_dataloader, candidate.batch_size)
        runner.train()  # the first epoch warms up, the clock keeps the second
    model, wrapper = runner.model, runner.optim_wrapper
    wrapper.initialize_count_status(model, 0, steps)
    if not cfg.get('compile'):
        watch_parts(model, wrapper, stopwatch)
    step = stopwatch.timed('step', functools.partial(train_step, model, wrapper, batch))
    for _ in range(steps):
        step()
    seconds = {name: stopwatch.seconds(name) for name in ('step', *PARTS)}
    seconds['other'] = seconds['step'] - sum(seconds[part] for part in PARTS)
    bare = bare_seconds(model, wrapper, batch, steps)
    wrapper.initialize_count_status(model, 0, 1)
    if profile_to:
        write_profile(step, Path(profile_to), candidate.name)
        wrapper.initialize_count_status(model, 0, 1)
    memory = peak_memory(step)  # at last, for it changes how memory is given back
    total = steps * candidate.batch_size
    return dict(
        data_rate=data_rate,
        step_rate=total / seconds['step'],
        end_to_end_rate=total / clock.seconds,
        backbone_rate=total / bare,
        peak_memory=memory / 2**30,
        data_share=clock.waited / clock.seconds,
        **{
            f'{part}_share': None if cfg.get('compile') else seconds[part] / seconds['step']
            for part in PARTS
        },
    )


def bare_seconds(model: MontageModel, wrapper: OptimWrapper, batch: dict, steps: int) -> float:
    """What forward and backward passes of the backbone alone take, in the precision of the recipe."""
    device = next(model.parameters()).device
    images = torch.randn_like(batch['inputs'][0], dtype=torch.float, device=device)
    stopwatch = Stopwatch()

    def step() -> None:
        model.backbone.zero_grad()
        with wrapper.optim_context(model):
            loss = model.backbone(images)[-1].float().mean()
        loss.backward()

    step()
    for _ in range(steps):
        stopwatch.timed('bare', step)()
    return stopwatch.seconds('bare')


def synchronise() -> None:
    """Wait until the device has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Stopwatch:
    """Adds up how long functions take.

    On a GPU by events in its queue: a step does not have to wait at the end of each of its parts.
    """

    def __init__(self) -> None:
        self.spans = defaultdict(list)

    def now(self) -> Union[float, torch.cuda.Event]:
        """A moment, for the device if there is one."""
        if not torch.cuda.is_available():
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def timed(self, name: str, function: Callable) -> Callable:
        """``function``, which from now on counts as ``name``, here and in PyTorch's profiler."""

        @functools.wraps(function)
        def run(*args, **kwargs) -> Any:
            start = self.now()
            with record_function(name):
                result = function(*args, **kwargs)
            self.spans[name].append((start, self.now()))
            return result

        return run

    def seconds(self, name: str) -> float:
        """What ``name`` took in all."""
        synchronise()
        return sum(
            stop - start if isinstance(start, float) else start.elapsed_time(stop) / 1000
            for start, stop in self.spans[name]
        )


class EpochClock(Hook):
    """Seconds of the last epoch, from asking for its first batch to the end of its last update.

    Attributes:
        seconds (float): All of them.
        waited (float): Those between an iteration's end and the next one's begin.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin."""
        synchronise()
        self.waited = 0.0
        self.begin = self.idle_since = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """A batch has arrived."""
        self.waited += time.perf_counter() - self.idle_since

    def after_train_iter(self, runner: Runner, *_, **__) -> None:
        """The next batch is asked for."""
        self.idle_since = time.perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        """End."""
        synchronise()
        self.seconds = time.perf_counter() - self.begin


def watch_parts(model: MontageModel, wrapper: OptimWrapper, stopwatch: Stopwatch) -> None:
    """Have a stopwatch time the parts of a step that ``model.train_step`` goes through."""
    watch(model.data_preprocessor, stopwatch, forward='montage')
    watch(model.head, stopwatch, loss='loss')
    watch(model, stopwatch, embed_tiles='online', embed_images='target', update_target='EMA')
    if isinstance(model, DistilledMCL):
        watch(model.teacher, stopwatch, __call__='target')
    watch(wrapper, stopwatch, backward='backward', step='optimiser', zero_grad='optimiser')


def watch(owner: object, stopwatch: Stopwatch, **parts: str) -> None:
    """Make an object one of a subclass whose methods, as far as it has them, count as parts."""
    kind = type(owner)
    timed = {
        name: stopwatch.timed(part, getattr(kind, name))
        for name, part in parts.items()
        if hasattr(kind, name)  # SupervisedMCL has no target
    }
    owner.__class__ = type(f'Timed{kind.__name__}', (kind,), timed)


def train_step(model: MontageModel, wrapper: OptimWrapper, batch: dict) -> dict[str, Tensor]:
    """One iteration of training without the hooks; returns its losses and cosines."""
    scalars = model.train_step(batch, wrapper)
    if wrapper.should_update() and isinstance(model, MCL):
        model.update_target(0.99)
    return scalars


def load_batch(loader: torch.utils.data.DataLoader, batch_size: int) -> tuple[dict, float]:
    """A batch made in this process by one thread, and the images a second of CPU time that this took.

    Batches are made for two seconds at least: a hiccup of the machine is longer than a small one takes.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    loader.dataset[0]
    count, seconds, begin = 0, 0.0, time.process_time()
    while seconds < 2:
        batch = loader.collate_fn([loader.dataset[index] for index in range(batch_size)])
        count, seconds = count + batch_size, time.process_time() - begin
    torch.set_num_threads(threads)
    if loader.pin_memory and torch.cuda.is_available():
        batch['inputs'] = [views.pin_memory() for views in batch['inputs']]
    return batch, count / seconds


def peak_memory(step: Callable[[], Any]) -> int:
    """Bytes: most that tensors on the GPU take during a step; without one, most that this process takes.

    With the settings of ``tools/allocator.sh`` a process keeps what is freed, and as blocks of many
    sizes leave gaps, it grows beyond what is in use. Here it gives back what earlier steps left, and
    blocks from 1 MiB on as soon as they are free.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):  # another libc, or no right to reset: more is counted
        libc = ctypes.CDLL('libc.so.6')
        libc.mallopt(MMAP_MAX, 2**16)
        libc.mallopt(MMAP_THRESHOLD, 2**20)
        libc.malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')  # VmHWM begins anew
    step()
    # Not ru_maxrss, which a process inherits from the one that started it.
    return int(re.search(r'VmHWM:\s+(\d+) kB', Path('/proc/self/status').read_text())[1]) * 1024


def write_profile(step: Callable[[], Any], folder: Path, name: str) -> None:
    """Profile one step: ``NAME.txt``, a table of operators, and ``NAME.json`` for a trace viewer."""
    activities, order = [ProfilerActivity.CPU], 'self_cpu_time_total'
    if torch.cuda.is_available():
        activities, order = [*activities, ProfilerActivity.CUDA], 'self_cuda_time_total'
    with profile(activities=activities) as profiler:
        step()
        synchronise()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{name}.txt').write_text(
        profiler.key_averages().table(sort_by=order, row_limit=60, max_name_column_width=80)
    )
    profiler.export_chrome_trace(str(folder / f'{name}.json'))
