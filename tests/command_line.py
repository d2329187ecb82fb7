"""Commands as a user calls them."""

import os
import runpy
import subprocess
import sys
from unittest.mock import patch

from mmengine.registry import DefaultScope

from conftest import ROOT

PRETRAIN = str(ROOT / 'configs/quickstart/pretrain.py')
FINETUNE = str(ROOT / 'configs/quickstart/finetune.py')


def call(tool, *arguments):
    """Run ``python tools/TOOL.py ARGUMENTS`` in this process, in a fresh MMEngine scope.

    Returns:
        int | str: 0, or the exit code or message it ends with.
    """
    path = str(ROOT / f'tools/{tool}.py')
    with patch.object(sys, 'argv', [path, *map(str, arguments)]):
        try:
            with DefaultScope.overwrite_default_scope('mmengine'):
                runpy.run_path(path, run_name='__main__')
        except SystemExit as stop:
            return stop.code or 0
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
