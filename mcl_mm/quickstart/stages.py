"""One progress display for a row of stages, with the time each took."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class Stages:
    """Show stage ``k`` of ``n``: a bar with the remaining time on a terminal, two lines a stage elsewhere.

    Args:
        titles (Sequence[str]): Of all stages, in their order.

    Attributes:
        minutes (dict[str, float]): How long each finished stage took, by title.
    """

    def __init__(self, titles: Sequence[str]) -> None:
        self.titles = list(titles)
        self.minutes = {}
        self.console = Console(file=sys.stdout, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str) -> Iterator[Callable[[float], None]]:
        """Time the block as stage ``title``.

        Yields:
            Callable[[float], None]: Takes the share that is done, in [0, 1].
        """
        name = f'[{self.titles.index(title) + 1}/{len(self.titles)}] {title}'
        width = max(map(len, self.titles)) + 8
        started = time.monotonic()
        columns = [
            TextColumn('{task.description}', markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        ]
        if not self.console.is_terminal:
            self.console.print(name, markup=False)
        with Progress(
            *columns,
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.console.is_terminal,
        ) as progress:
            task = progress.add_task(name.ljust(width), total=1.0)
            yield lambda share: progress.update(task, completed=share)
        self.minutes[title] = (time.monotonic() - started) / 60
        self.console.print(f'{name.ljust(width)} {self.minutes[title]:5.1f} min', markup=False)


def watch(
    jobs: Sequence[Callable[[], Any]],
    share: Callable[[], float],
    update: Callable[[float], None],
    at_once: int,
) -> list:
    """Run jobs side by side, each of which waits for a process of its own, and follow them.

    Args:
        jobs (Sequence[Callable]): What to call.
        share (Callable[[], float]): How much of all is done, in [0, 1].
        update (Callable[[float], None]): Gets it once a second.
        at_once (int): How many jobs run at a time.

    Returns:
        list: What the jobs returned, in their order.

    Raises:
        Exception: The first that a job raises. Jobs that have not begun are left out.
    """
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, timeout=1, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                update(share())
        finally:
            for future in futures:
                future.cancel()
    return [future.result() for future in futures]
