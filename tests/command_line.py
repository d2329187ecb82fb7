"""Commands as a user calls them."""

import os
import subprocess

from mmengine.registry import DefaultScope

from conftest import ROOT
from mcl_mm.cli import main


def call(command, *arguments):
    """Run ``mcl-mm COMMAND ARGUMENTS`` in this process, in a fresh MMEngine scope.

    Returns:
        int | str: 0, or the exit code or message it ends with.
    """
    try:
        with DefaultScope.overwrite_default_scope('mmengine'):
            main(command, list(map(str, arguments)))
    except SystemExit as stop:
        return stop.code or 0
    return 0


def run(*command, cwd=ROOT, **environment):
    """Run a command as its own process; return it with its output as text."""
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', **environment)
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, text=True, capture_output=True, timeout=300
    )
