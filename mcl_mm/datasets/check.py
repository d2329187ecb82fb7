"""Every image of a folder or list, checked in several processes by the rules of training."""

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import NamedTuple, Optional, Union

from rich.console import Console
from rich.progress import track

from .channels import measure_channels
from .depth import RANGE_FILE, ChannelRanges, ValueRange, measure, write_value_range
from .lists import read_list, write_list
from .scan import spread
from .survey import Look, look, tone, tones
from .unlabelled_images import UnlabelledImages

MEASURED = 1024  # images whose values give a set its range


class Images(NamedTuple):
    """What is to be checked.

    Attributes:
        folder (str): The ``data_root``.
        lines (list[str]): As a list has them, or would.
        paths (list[str]): The files.
        passed_over (Counter[str]): Other files of the folder, by ending.
    """

    folder: str
    lines: list[str]
    paths: list[str]
    passed_over: 'Counter[str]'


@dataclass
class Report:
    """What was found.

    Attributes:
        bad (dict[str, str]): Path to reason of the images that cannot be used.
        checked (int): Images; fewer than all after an interrupt.
        seconds (float): It took.
        deep (int): Images with more than 8 bits a sample.
        left_out (Counter[str]): What of images is not used, and of how many.
        tones (Counter[str]): Images that are nearly black, nearly flat or clipped.
        measured (int): Images with more than 8 bits whose values were measured.
        value_range (tuple, optional): Of these; of a set with channels, a pair for each.
        mean, std (list[float]): Of each channel of such a set, in [0, 255]; else empty.
        flat (list[int]): Its channels, from 1, that have one value.
    """

    bad: dict[str, str] = field(default_factory=dict)
    checked: int = 0
    seconds: float = 0.0
    deep: int = 0
    left_out: 'Counter[str]' = field(default_factory=Counter)
    tones: 'Counter[str]' = field(default_factory=Counter)
    measured: int = 0
    value_range: Union[ValueRange, ChannelRanges, None] = None
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    flat: list[int] = field(default_factory=list)


def find(
    folder: str, ann_file: str = '', channels: Optional[int] = None, folders: Sequence[str] = ()
) -> Images:
    """List the images of a folder, or those that a list names.

    Args:
        folder (str): The ``data_root`` of a training run.
        ann_file (str): The list. Labels in it are kept. Defaults to '', all images of the folder.
        channels (int, optional): See :class:`UnlabelledImages`. Defaults to None.
        folders (Sequence[str]): Likewise. Defaults to none.

    Raises:
        OSError, ValueError: See :class:`UnlabelledImages`.
    """
    ann_file = ann_file and os.path.abspath(ann_file)
    settings = dict(ann_file=ann_file, channels=channels, folders=folders)
    folder = os.path.expanduser(folder)
    dataset = UnlabelledImages(folder, pipeline=[], lazy_init=True, **settings)
    paths = [info['img_path'] for info in dataset.find_images()]
    if not ann_file:
        lines = [os.path.relpath(path, folder) for path in paths]
    else:
        lines = [line for _, line in read_list(ann_file, tuple(dataset.extensions))]
    return Images(folder, lines, paths, dataset.passed_over)


def check(paths: Sequence[str], workers: int, channels: Optional[int] = None) -> Report:
    """Decode files in parallel, with a progress bar.

    Args:
        paths (Sequence[str]): The files.
        workers (int): Processes.
        channels (int, optional): See :class:`UnlabelledImages`. Defaults to None.

    Raises:
        OSError: A worker was killed.
    """
    report, start = Report(), time.time()
    interrupted = threading.Event()

    def interrupt(*_) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)  # for one that does not want to wait

    # No KeyboardInterrupt: raised amid a callback of the pool or of the progress bar, it may get lost.
    before = signal.signal(signal.SIGINT, interrupt)
    pool = ProcessPoolExecutor(workers, initializer=ignore_interrupts)
    kept, measured = [], set(spread(len(paths), MEASURED))
    try:
        # After an interrupt, chunks that a worker has or is about to get are still waited for.
        chunk = max(1, min(64, len(paths) // (32 * workers)))
        jobs = [(path, number in measured, channels) for number, path in enumerate(paths)]
        found = pool.map(check_image, jobs, chunksize=chunk)
        for image in track(found, 'decoding', total=len(paths), console=Console(file=sys.stderr)):
            count(report, paths[report.checked], *image)
            kept += [image[0]] if image[0].values is not None else []
            if interrupted.is_set():
                print('interrupted', file=sys.stderr)
                break
    except BrokenProcessPool:
        raise OSError(
            'a worker was killed, probably for want of memory: try fewer --workers'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
        signal.signal(signal.SIGINT, before)
    if kept and channels is not None:
        found = measure_channels(image.values for image in kept)
        report.value_range, report.measured = found.value_range, len(kept)
        report.mean, report.std, report.flat = found.mean, found.std, found.flat
    elif kept:
        report.value_range, report.measured = measure(image.values for image in kept), len(kept)
        report.tones += tones(kept, report.value_range)
    report.seconds = time.time() - start
    return report


def check_image(job: tuple[str, bool, Optional[int]]) -> tuple[Look, Optional[str]]:
    """Look at one file, in a worker; values are sent back only if they are to be measured."""
    path, measured, channels = job
    found = look(path, channels)
    shown = found.reason is None and not found.deep and channels is None
    seen = tone(found.values) if shown else None
    needed = measured and (found.deep or channels is not None)
    return found if needed else found._replace(values=None), seen


def count(report: Report, path: str, found: Look, seen: Optional[str]) -> None:
    """Add an image to a report."""
    report.checked += 1
    report.deep += found.deep
    if found.reason is not None:
        report.bad[path] = found.reason
    if found.left_out:
        report.left_out[found.left_out] += 1
    if seen:
        report.tones[seen] += 1


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def write_good(path: str, images: Images, report: Report) -> list[str]:
    """Write the good images as ``ann_file`` takes them, and their value range beside it.

    Returns:
        list[str]: The files written.
    """
    good = (line for line, file in zip(images.lines, images.paths) if file not in report.bad)
    write_list(path, good)
    if report.value_range is None and not report.mean:
        return [path]
    more = dict(mean=report.mean, std=report.std) if report.mean else {}
    write_value_range(path + RANGE_FILE, report.value_range, report.measured, **more)
    return [path, path + RANGE_FILE]


def write_bad(path: str, report: Report) -> None:
    """Write the bad images: path, tab, reason."""
    write_list(path, (f'{file}\t{reason}' for file, reason in report.bad.items()))
