"""Processes of a test, forked from one that has imported everything, for that takes longer than what they do.

They share nothing with the test: the process they are forked from has run nothing.
"""

import gc
import multiprocessing
import os
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import torch

import faults  # noqa: F401  (no time goes into the format of configs)
from mcl_mm.cli import main

TIMEOUT = 240  # seconds for what takes a few
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    ['faults', 'mcl_mm.cli.train', 'mcl_mm.evaluation', 'pytest', 'mmpretrain.models',
     'mmpretrain.datasets', 'mmdet.datasets', 'mmdet.visualization', 'torch._dynamo']
)  # fmt: skip


def run_command(name: str, arguments: list[str], log: str, env: dict[str, str]) -> None:
    """Run a command of ``mcl-mm`` in a forked process.

    Args:
        name (str): The command.
        arguments (list[str]): Its arguments.
        log (str): File that gets the output in addition to what is there.
        env (dict[str, str]): Added to the environment.
    """
    os.environ.update(env)
    gc.freeze()  # what is imported need not be searched when MMEngine collects garbage
    with open(log, 'ab') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(name, arguments)


def forked(
    *arguments: str, stdout: Any = None, stderr: Any = None, **settings: Any
) -> subprocess.CompletedProcess:
    """In place of :func:`mcl_mm.evaluation.runs.call`: a command that is forked instead of started."""
    assert arguments[:2] == ('-m', 'mcl_mm'), arguments
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / 'log'
        command = arguments[2], list(arguments[3:]), str(log), {}
        process = CONTEXT.Process(target=run_command, args=command)
        process.start()
        process.join(TIMEOUT)
        text = log.read_text(errors='replace')
    if stdout is not None:
        stdout.write(text)
    return subprocess.CompletedProcess(arguments, process.exitcode, text, text)


def fork_but_the_first(monkeypatch, *modules: Any) -> None:
    """The first run of a comparison is a Python of its own, as users have it; others are forked.

    One comparison does so. Others fork all runs: what starts them is the same function.
    """
    call, real = modules[0].call, []

    def run(*arguments: str, **settings: Any) -> subprocess.CompletedProcess:
        if real:
            return forked(*arguments, **settings)
        real.append(arguments)
        return call(*arguments, **settings)

    for module in modules:
        monkeypatch.setattr(module, 'call', run)


def run_ranks(function: Callable, count: int, port: int, *arguments: Any) -> list:
    """Call a function in several processes that Gloo connects.

    Args:
        function (Callable): Of a test module; takes its rank and ``arguments``.
        count (int): Processes.
        port (int): One that nobody listens on.
        *arguments: What can be pickled.

    Returns:
        list: What the function returned, in order of rank.

    Raises:
        AssertionError: It failed; has the traceback.
    """
    queue = CONTEXT.Queue()
    processes = [
        CONTEXT.Process(target=_run_rank, args=(function, rank, count, port, queue, arguments))
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    results = {}
    for _ in processes:
        rank, result, error = queue.get(timeout=TIMEOUT)
        assert error is None, error
        results[rank] = result
    for process in processes:
        process.join()
    return [results[rank] for rank in range(count)]


def _run_rank(function, rank, count, port, queue, arguments) -> None:
    gc.freeze()
    torch.set_num_threads(1)
    os.environ['LOCAL_RANK'] = str(rank)
    address = f'tcp://127.0.0.1:{port}'
    torch.distributed.init_process_group('gloo', init_method=address, rank=rank, world_size=count)
    result, error = None, None
    try:
        result = function(rank, *arguments)
    except BaseException:
        error: Optional[str] = traceback.format_exc()
    queue.put((rank, result, error))
    if error is None:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
