"""Measure pre-training recipes against each other: speed, cost, memory, and where a step spends its time.

    python tools/benchmark.py CONFIG [CONFIG ...]
    python tools/benchmark.py configs/mcl_r50_100e.py configs/mcl_r50_100e_fast.py --reference
    python tools/benchmark.py CONFIG [CONFIG ...] --images DIR --batch-size 64 --json > benchmark.json
    python tools/benchmark.py CONFIG --batch-size 32 8 64            # one recipe at several sizes
    python tools/benchmark.py CONFIG [CONFIG ...] --rounds 0         # count multiply-adds only, seconds

Configs take turns (A B A B ...), --rounds times, each turn in a process of its own. Prints a median of the
rounds and their range, and ratios to the first turn, round by round. Of several batch sizes or sides each
config takes a turn with every one. On a GPU if there is one, else on the CPU with the settings of
tools/allocator.sh; precision and memory format are the config's, as tools/train.py would take them.
docs/performance.md explains the rows.

A config is Python code and runs as such: open only those you trust.
"""

import argparse
import contextlib
import ctypes
import functools
import itertools
import json
import math
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union
from unittest import mock

import cv2
import numpy as np
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

with contextlib.redirect_stdout(sys.stderr):  # --json has the output to itself; mmpretrain prints
    from train import adapt_to_cpu

    import mcl_mm  # noqa: F401  (checks the environment and registers the components)
    from mcl_mm.datasets import UnlabelledImages
    from mcl_mm.models import MCL, MontageModel
    from mcl_mm.models.montage import Montage
    from mcl_mm.registry import DATASETS, MODELS

TOOLS = Path(__file__).resolve().parent
MMAP_THRESHOLD, MMAP_MAX = -3, -4  # M_MMAP_THRESHOLD and M_MMAP_MAX of glibc's malloc.h
LABELLED = '.labelled'  # ends the name of the list that has labels
PARTS = ('montage', 'online', 'target', 'loss', 'backward', 'optimiser', 'EMA', 'other')
# Key, what the table calls it, how to print it, and whether to compare it with the first config's.
ROWS = (
    ('multiply_adds', 'multiply-adds an image, G', '{:.4g}', True),
    ('data_rate', 'data alone, images/s a core', '{:.1f}', True),
    ('step_rate', 'step alone, images/s', '{:.3g}', True),
    ('end_to_end_rate', 'end to end, images/s', '{:.3g}', True),
    ('backbone_rate', 'bare backbone, images/s', '{:.3g}', False),
    ('achieved', "multiply-adds/s over the bare backbone's", '{:.2f}', False),
    ('peak_memory', 'peak memory, GiB', '{:.2f}', True),
    ('data_share', 'waiting for data, of end to end', '{:.1%}', False),
    *((f'{part}_share', f'{part}, of the step', '{:.1%}', False) for part in PARTS),
)


class Candidate(NamedTuple):
    """What takes turns.

    Attributes:
        name (str): For people.
        cfg (Config): Ready for a Runner but for ``work_dir``.
        batch_size (int): Images a step.
        side (int): Of a sheet, in pixels.
        reference (bool): Compute the step as the authors' code does.
    """

    name: str
    cfg: Config
    batch_size: int
    side: int
    reference: bool


# Cost.


def multiply_adds(
    model: dict, batch_size: int, side: int, reference: bool = False
) -> tuple[float, float]:
    """Count the multiply-adds of a step, forward and backward, operator by operator.

    Runs on tensors without values, so it takes seconds for a network of any size.

    Args:
        model (dict): Config of an :class:`~mcl_mm.models.MontageModel`, scope ``mcl_mm``.
        batch_size (int): Images a step.
        side (int): Of a sheet, in pixels.
        reference (bool): See :func:`compute_like_the_authors`. Defaults to False.

    Returns:
        tuple[float, float]: Per image, of the step and of the bare backbone on one full image.

    Raises:
        ValueError: The model learns from no montage, or its montage does not fit.
    """
    with DefaultScope.overwrite_default_scope('mcl_mm'):
        model = MODELS.build(model)
    if not isinstance(model, MontageModel):
        raise ValueError(f'the model must be an MCL, got {type(model).__name__}')
    model.to('meta')
    if reference:
        compute_like_the_authors(model)

    def per_image(loss: Callable[[], Tensor]) -> float:
        # The head turns autocast off for its device, but there is none for the meta device.
        off = mock.patch('torch.autocast', return_value=contextlib.nullcontext())
        right = {torch.ops.aten.convolution_backward: conv_backward_flops}
        with off, FlopCounterMode(display=False, custom_mapping=right) as counter:
            loss().backward()
        return counter.get_total_flops() / 2 / batch_size

    images = torch.empty(batch_size, 3, side, side, device='meta')
    levels = len(model.head.loss_weights)
    sides = model.data_preprocessor.montage([images] * levels, [images] * levels)
    labels = [DataSample().set_gt_label(0)] * batch_size
    return (
        per_image(lambda: model.parse_losses(model.loss(sides, labels))[0]),
        per_image(lambda: model.backbone(images)[-1].mean()),
    )


def conv_backward_flops(
    grad: Sequence[int], maps: Sequence[int], weight: Sequence[int], *settings, **_
) -> int:
    """Operations of a convolution's backward pass: each gradient costs as much as the forward pass.

    PyTorch's own count of the gradient of grouped weights goes as if there were one group.

    Args:
        grad (Sequence[int]): Shape of the gradient of the output.
        maps (Sequence[int]): Shape of the input.
        weight (Sequence[int]): Shape of the weights.
        *settings: The other arguments of ``aten::convolution_backward``.
    """
    transposed, wanted = settings[4], settings[7]  # gradients of input, weight, bias
    batch, _, *places = maps if transposed else grad
    return 2 * batch * math.prod(places) * math.prod(weight) * sum(wanted[:2])


def compute_like_the_authors(model: MCL) -> None:
    """Have a model send all sheets through all levels of the target too, and then read one of them.

    The authors' code does so. Losses and gradients stay what they are.
    """

    def embed_images(montage: Montage) -> Tensor:
        maps = model.target.backbone(torch.cat(montage.sheets))
        cells = model.target.neck(maps, range(len(montage.sheets)))
        return cells[0][: len(montage.sheets[0])]

    model.embed_images = embed_images


# Time.


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
    for owner, name, part in (
        (model.data_preprocessor, 'forward', 'montage'),
        (model, 'embed_tiles', 'online'),
        (model, 'embed_images', 'target'),
        (model.head, 'loss', 'loss'),
        (wrapper, 'backward', 'backward'),
        (wrapper, 'step', 'optimiser'),
        (wrapper, 'zero_grad', 'optimiser'),
        (model, 'update_target', 'EMA'),
    ):
        if not hasattr(owner, name):  # SupervisedMCL has no target
            continue
        setattr(owner, name, stopwatch.timed(part, getattr(owner, name)))


def train_step(model: MontageModel, wrapper: OptimWrapper, batch: dict) -> dict[str, Tensor]:
    """One iteration of training without the hooks; returns its losses and cosines."""
    scalars = model.train_step(batch, wrapper)
    if wrapper.should_update() and isinstance(model, MCL):
        model.update_target(0.99)
    return scalars


# One turn.


def set_up_process(threads: Optional[int]) -> None:
    """Prepare a process that measures."""
    sys.stdout = sys.stderr  # what libraries print must not get into --json
    if threads:
        torch.set_num_threads(threads)


def measure(
    candidate: Candidate, steps: int, profile_to: Optional[str] = None
) -> dict[str, Optional[float]]:
    """Measure everything once, in this process.

    Args:
        candidate (Candidate): What.
        steps (int): Steps, and batches of an epoch, to time.
        profile_to (str, optional): Folder for PyTorch's profile of one more step. Defaults to None.

    Returns:
        dict: The values of :data:`ROWS` but ``multiply_adds`` and ``achieved``. Rates are in images a
        second, memory in GiB, the rest are shares. Shares of parts are None for a compiled step, which
        has none.
    """
    cfg, clock, stopwatch = candidate.cfg, EpochClock(), Stopwatch()
    with tempfile.TemporaryDirectory() as cfg.work_dir:
        runner = Runner.from_cfg(cfg)
        runner.register_hook(clock, 'LOWEST')  # what other hooks do is not waiting for data
        model = runner.model
        if candidate.reference:
            compute_like_the_authors(model)
        batch, data_rate = load_batch(runner.train_dataloader, candidate.batch_size)
        runner.train()  # the first epoch warms up, the clock keeps the second
    wrapper = runner.optim_wrapper
    wrapper.initialize_count_status(model, 0, steps)
    if not cfg.get('compile'):
        watch_parts(model, wrapper, stopwatch)
    step = stopwatch.timed('step', functools.partial(train_step, model, wrapper, batch))
    for _ in range(steps):
        step()
    seconds = {name: stopwatch.seconds(name) for name in ('step', *PARTS)}
    seconds['other'] = seconds['step'] - sum(seconds[part] for part in PARTS)
    device = next(model.parameters()).device
    images = torch.randn_like(batch['inputs'][0], dtype=torch.float, device=device)
    bare = stopwatch.timed('bare', functools.partial(backbone_step, model, wrapper, images))
    bare()
    stopwatch.spans['bare'].clear()
    for _ in range(steps):
        bare()
    total = steps * candidate.batch_size
    backbone_rate = total / stopwatch.seconds('bare')
    if profile_to:
        wrapper.initialize_count_status(model, 0, 1)
        write_profile(step, Path(profile_to), candidate.name)
    wrapper.initialize_count_status(model, 0, 1)
    memory = peak_memory(step)  # at last, for it changes how memory is given back
    shares = {
        f'{part}_share': None if cfg.get('compile') else seconds[part] / seconds['step']
        for part in PARTS
    }
    return dict(
        data_rate=data_rate,
        step_rate=total / seconds['step'],
        end_to_end_rate=total / clock.seconds,
        backbone_rate=backbone_rate,
        peak_memory=memory / 2**30,
        data_share=clock.waited / clock.seconds,
        **shares,
    )


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


def backbone_step(model: MontageModel, wrapper: OptimWrapper, images: Tensor) -> None:
    """Forward and backward pass of the backbone alone, in the precision of the recipe."""
    model.backbone.zero_grad()
    with wrapper.optim_context(model):
        loss = model.backbone(images)[-1].float().mean()
    loss.backward()


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


# Configs and images.


def side_settings(pipeline: Any) -> Iterator[tuple[ConfigDict, str]]:
    """Where in a pipeline the side of full views stands: transforms, each with the name of the argument."""
    keys = dict(NativeViews='side', RandomResizedCrop='scale')
    if isinstance(pipeline, dict):
        key = keys.get(str(pipeline.get('type')).split('.')[-1])
        if key:
            yield pipeline, key
        pipeline = list(pipeline.values())
    if isinstance(pipeline, (list, tuple)):
        for part in pipeline:
            yield from side_settings(part)


def prepare(cfg: Config, batch_size: int, side: Optional[int], folder: str, listed: str) -> int:
    """Make a config of pre-training one for two short epochs.

    Args:
        cfg (Config): Changed in place.
        batch_size (int): Images a step.
        side (int, optional): Of a sheet, in pixels; None leaves the config's.
        folder (str): Images.
        listed (str): File that lists the images of an epoch.

    Returns:
        int: The side of a sheet, in pixels.

    Raises:
        ValueError: It is not a config of pre-training on a folder of images.
    """
    dataset = cfg.get('train_dataloader', {}).get('dataset', {})
    settings = list(side_settings(dataset.get('pipeline')))
    kind = str(dataset.get('type')).split('.')[-1]
    if kind not in ('UnlabelledImages', 'LabelledImages') or not settings:
        raise ValueError(
            f'{cfg.filename} is not a config of pre-training: its data must be UnlabelledImages or '
            'LabelledImages, with views from RandomResizedCrop or NativeViews'
        )
    for transform, key in settings:
        transform[key] = side or transform[key]
    dataset.data_root, dataset.ann_file = folder, listed
    if kind == 'LabelledImages':
        dataset.ann_file += LABELLED
    cfg.train_dataloader.batch_size = batch_size
    cfg.train_dataloader.drop_last = True
    cfg.train_dataloader.sampler = dict(type='SeededSampler')
    cfg.train_cfg = dict(type='ResumableEpochLoop', max_epochs=2)
    cfg.log_processor = dict(cfg.get('log_processor') or dict(type='LogProcessor'), by_epoch=True)
    for part in ('val', 'test'):
        for kind in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{part}_{kind}'] = None
    cfg.default_hooks = dict(cfg.get('default_hooks') or {}, checkpoint=None)
    cfg.load_from, cfg.resume, cfg.log_level, cfg.launcher = None, False, 'ERROR', 'none'
    if not torch.cuda.is_available():
        adapt_to_cpu(cfg)
    return settings[0][0][settings[0][1]]


def draw_photos(folder: str, count: int = 32) -> None:
    """Write JPEGs of 500 x 375 pixels, quality 92, with detail at all scales as in photographs."""
    rng = np.random.default_rng(0)
    for index in range(count):
        image = np.full((375, 500, 3), rng.uniform(60, 190, 3))
        for cells in (2, 4, 8, 16, 32, 64, 128):
            noise = rng.standard_normal((cells * 3 // 4 + 1, cells, 3)) * 70 / cells**0.5
            image += cv2.resize(noise, (500, 375), interpolation=cv2.INTER_CUBIC)
        for _ in range(8):
            centre = tuple(map(int, rng.integers(0, 500, 2)))
            cv2.circle(
                image, centre, int(rng.integers(10, 80)), rng.uniform(0, 255, 3).tolist(), -1
            )
        image += rng.normal(0, 7, image.shape)
        path = os.path.join(folder, f'{index:03d}.jpg')
        cv2.imwrite(path, image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])


def list_images(folder: str, count: int, out: str) -> None:
    """List ``count`` images of a folder, from the first again if it has fewer, as ``ann_file`` takes them.

    Writes ``out``, and for supervised methods ``out`` + ``LABELLED``, whose labels are 0 and 1 in turn.

    Raises:
        OSError, ValueError: It has no image that can be read.
    """
    if not os.path.isdir(folder):
        raise FileNotFoundError(f'no image folder at {os.path.abspath(folder)}')
    paths = [info['img_path'] for info in UnlabelledImages(data_root=folder).load_data_list()]
    paths = [os.path.relpath(path, folder) for path in paths]
    open_list = functools.partial(open, mode='w', errors='surrogateescape')
    with open_list(out) as plain, open_list(out + LABELLED) as labelled:
        for index, path in enumerate(itertools.islice(itertools.cycle(paths), count)):
            plain.write(f'{path}\n')
            labelled.write(f'{path} {index % 2}\n')  # what the labels are costs nothing


def allocator_settings() -> dict[str, str]:
    """What ``tools/allocator.sh`` sets in the environment, with all that was set before."""
    command = ['bash', '-c', '. "$0"; env -0', TOOLS / 'allocator.sh']
    lines = subprocess.check_output(command, text=True, errors='surrogateescape').split('\0')
    return dict(line.split('=', 1) for line in lines if '=' in line)


# All turns.


def summarise(rounds: Sequence[Sequence[dict]]) -> list[dict[str, dict]]:
    """Median and range over rounds.

    Args:
        rounds (Sequence[Sequence[dict]]): ``rounds[r][c]`` holds the values of candidate ``c``.

    Returns:
        list[dict]: Per candidate ``values`` and ``ratios`` (to the first candidate in the same round,
        where :data:`ROWS` wants them), by key ``dict(median=..., min=..., max=...)``, or None.
    """

    def spread(values: list) -> Optional[dict[str, float]]:
        if None in values:
            return None
        return dict(median=statistics.median(values), min=min(values), max=max(values))

    return [
        dict(
            values={key: spread([turn[index].get(key) for turn in rounds]) for key, *_ in ROWS},
            ratios={
                key: spread([turn[index][key] / turn[0][key] for turn in rounds])
                for key, _, _, compared in ROWS
                if compared and key in rounds[0][index]
            },
        )
        for index in range(len(rounds[0]))
    ]


def table(names: list[str], summaries: list[dict]) -> str:
    """A table in Markdown, a column a candidate."""

    def cell(spread: Optional[dict], pattern: str) -> str:
        if spread is None:
            return '-'
        median, low, high = (pattern.format(spread[key]) for key in ('median', 'min', 'max'))
        return median if low == high else f'{median} ({low} to {high})'

    rows = [['', *names], ['---'] * (1 + len(names))]
    for key, title, pattern, compared in ROWS:
        if all(s['values'][key] is None for s in summaries):
            continue
        rows.append([title, *(cell(s['values'][key], pattern) for s in summaries)])
        if compared and len(names) > 1:
            ratios = (cell(s['ratios'][key], '{:.2f}') for s in summaries)
            rows.append(['- times the first', *ratios])
    return '\n'.join(f'| {" | ".join(row)} |' for row in rows)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', nargs='+', help='config of a pre-training run')
    parser.add_argument(
        '--reference',
        action='store_true',
        help="before the configs, the first of them with the authors' step: it sends all sheets through "
        'all levels of the target too, and reads one',
    )
    parser.add_argument(
        '--batch-size', type=int, nargs='+', default=[32], help='images a step (default: 32)'
    )
    parser.add_argument(
        '--side',
        type=int,
        nargs='+',
        default=[None],
        help="of a sheet, pixels (default: the config's)",
    )
    parser.add_argument('--steps', type=int, default=5, help='timed in a round (default: 5)')
    parser.add_argument(
        '--rounds', type=int, default=3, help='turns of each config (default: 3; 0 only counts)'
    )
    parser.add_argument('--threads', type=int, help="of the CPU (default: PyTorch's)")
    parser.add_argument('--images', help='folder (default: JPEGs of 500 x 375, drawn by this tool)')
    parser.add_argument('--profile', metavar='OUT', help="folder for PyTorch's profile of a step")
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='settings to override')
    args = parser.parse_args()
    at_least = [('rounds', args.rounds, 0), ('steps', args.steps, 1), ('threads', args.threads, 1)]
    at_least += [('batch-size', size, 2) for size in args.batch_size]
    for name, value, least in at_least:
        if value is not None and value < least:
            raise ValueError(f'--{name} must be at least {least}, got {value}')
    for side in args.side:
        if side is not None and (side < 32 or side % 32):
            raise ValueError(f'--side must be a multiple of 32 pixels, got {side}')
    return args


def benchmark(args: argparse.Namespace, folder: str) -> dict:
    """Measure all candidates in turn.

    Args:
        args (argparse.Namespace): The command line.
        folder (str): For what is needed meanwhile.

    Returns:
        dict: Circumstances; per candidate its name, all rounds and their summary.
    """
    images, listed = args.images or os.path.join(folder, 'images'), os.path.join(folder, 'list')
    candidates, costs, rounds = [], [], []
    sizes = list(itertools.product(args.batch_size, args.side))
    for index, path in enumerate(args.config):
        name = Path(path).stem
        if name in (Path(other).stem for other in args.config[:index]):
            name = f'{name}_{index + 1}'
        for batch_size, side in sizes:
            cfg = Config.fromfile(path)
            cfg.merge_from_dict(args.cfg_options or {})
            side = prepare(cfg, batch_size, side, images, f'{listed}.{batch_size}')
            sized = name
            if len(args.batch_size) > 1:
                sized += f'_batch{batch_size}'
            if len(args.side) > 1:
                sized += f'_side{side}'
            if args.reference and index == 0:
                if cfg.model.get('joint', 'all') != 'all' or cfg.model.get('routed'):
                    raise ValueError(
                        f"--reference needs a first config with model.joint='all', not {path}"
                    )
                candidates.append(Candidate(f'{sized}_reference', cfg, batch_size, side, True))
            candidates.append(Candidate(sized, cfg, batch_size, side, False))

    if not args.images:
        os.mkdir(images)
        draw_photos(images)
    for batch_size in args.batch_size:
        list_images(images, args.steps * batch_size, f'{listed}.{batch_size}')
    for name, cfg, batch_size, side, reference in candidates:
        print(f'counting {name}', file=sys.stderr)
        with DefaultScope.overwrite_default_scope('mcl_mm'):
            DATASETS.build(cfg.train_dataloader.dataset)[0]  # fails now rather than in its turn
        costs.append(multiply_adds(cfg.model, batch_size, side, reference))

    if not args.rounds:
        rounds.append([dict(multiply_adds=step_cost / 1e9) for step_cost, _ in costs])
    for turn in range(args.rounds):
        rounds.append([])
        for candidate, (step_cost, backbone_cost) in zip(candidates, costs):
            # A new process each time: memory and caches are nobody else's.
            with ProcessPoolExecutor(
                1, get_context('spawn'), initializer=set_up_process, initargs=(args.threads,)
            ) as pool:
                profile_to = args.profile if turn == 0 else None
                values = pool.submit(measure, candidate, args.steps, profile_to).result()
            values['multiply_adds'] = step_cost / 1e9
            values['achieved'] = (step_cost * values['step_rate']) / (
                backbone_cost * values['backbone_rate']
            )
            rounds[-1].append(values)
            print(
                f'round {turn + 1} of {args.rounds}, {candidate.name}: '
                f'{values["step_rate"]:.3g} images/s',
                file=sys.stderr,
            )
    cuda = torch.cuda.is_available()
    return dict(
        schema=2,
        command=shlex.join(['python', *sys.argv]),
        device=torch.cuda.get_device_name() if cuda else 'cpu',
        cores=len(os.sched_getaffinity(0)),
        threads=args.threads or torch.get_num_threads(),
        torch=torch.__version__,
        steps=args.steps,
        candidates=[
            dict(
                name=candidate.name,
                batch_size=candidate.batch_size,
                side=candidate.side,
                rounds=[turn[index] for turn in rounds],
                **summary,
            )
            for index, (candidate, summary) in enumerate(zip(candidates, summarise(rounds)))
        ],
    )


def main() -> None:
    try:
        args = parse_args()
        # Libraries print while they are imported and built; the results have the output to themselves.
        with contextlib.redirect_stdout(sys.stderr):
            os.environ.update(allocator_settings())  # for the processes that measure
            with tempfile.TemporaryDirectory() as folder:
                report = benchmark(args, folder)
    except BrokenProcessPool:
        sys.exit(
            'MemoryError: a measuring process was killed, as the system does when memory runs out: '
            'lower --batch-size'
        )
    except (OSError, ValueError, RuntimeError, FloatingPointError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
    if args.json:
        print(json.dumps(report, indent=1))
        return
    print(
        '{command}\n{device}, {cores} cores, {threads} threads, PyTorch {torch}; {sizes} images a '
        'step, {steps} steps a round; median (range) of the rounds\n'.format(
            sizes=', '.join(map(str, args.batch_size)), **report
        )
    )
    print(table([c['name'] for c in report['candidates']], report['candidates']))


if __name__ == '__main__':
    main()
