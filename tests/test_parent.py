"""A command ends with the comparison that has started it."""

import os
import signal
import subprocess
import sys

COMMAND = """
import os, time
from mcl_mm import cli
cli.command_parser = lambda *_: (print(os.getpid(), flush=True), time.sleep(60))
cli.main('train', [])
"""


def test_a_command_ends_with_the_comparison_that_started_it():
    code = f'from mcl_mm.evaluation.runs import call; call("-c", {COMMAND!r})'
    comparison = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
    started = next(int(line) for line in comparison.stdout if line.strip().isdigit())
    comparison.kill()
    try:
        comparison.communicate(timeout=10)  # what it started holds the other end of the pipe
    except subprocess.TimeoutExpired:
        os.kill(started, signal.SIGKILL)
        raise
