"""Commands as a user calls them."""

import os
import subprocess

import pytest

from conftest import ROOT, call_tool

PRETRAIN = str(ROOT / 'configs/quickstart/pretrain.py')
FINETUNE = str(ROOT / 'configs/quickstart/finetune.py')


def call(tool, *arguments):
    """Run a command as :func:`conftest.call_tool` does.

    Returns:
        int | str: 0, or the exit code or message it ends with.
    """
    with pytest.MonkeyPatch.context() as patch:
        try:
            call_tool(patch, tool, *arguments)
        except SystemExit as stop:
            return stop.code
    return 0


def succeed(tool, *arguments):
    """Run a tool, see :func:`call`, that has to end well."""
    code = call(tool, *arguments)
    assert code == 0, code


def run(*command, cwd=ROOT, **environment):
    """Run a command as its own process; return it with its output as text."""
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHONWARNINGS='ignore', **environment)
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, text=True, capture_output=True, timeout=300
    )
