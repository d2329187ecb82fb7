"""Every launcher hands the allocator's settings to the processes it starts."""

import os
import platform
import subprocess
import sys

import pytest

from conftest import ROOT

NAMES = ('MALLOC_MMAP_MAX_', 'MALLOC_TRIM_THRESHOLD_', 'GLIBC_TUNABLES')
# Page faults of taking, filling and freeing 64 MiB five times, once that has been done.
FAULTS = """
from resource import RUSAGE_SELF, getrusage
before = 0
for turn in range(6):
    len(b'x' * 2**26)
    before = before or getrusage(RUSAGE_SELF).ru_minflt
print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture()
def launch(tmp_path):
    """Run a launcher whose `python` and `srun` only print the settings; return these."""
    for command in ('python', 'srun'):
        stub = tmp_path / command
        stub.write_text(f'#!/bin/sh\necho "${NAMES[0]} ${NAMES[1]} ${NAMES[2]}"\n')
        stub.chmod(0o755)

    def run(*arguments, **settings):
        env = {key: value for key, value in os.environ.items() if key not in NAMES}
        env.update(settings, PATH=f'{tmp_path}:{env["PATH"]}')
        done = subprocess.run(
            ['bash', *arguments], cwd=ROOT, env=env, text=True, capture_output=True, check=True
        )
        return done.stdout.split()

    return run


LAUNCHERS = [
    ('tools/dist_train.sh', 'CONFIG', '2'),
    ('tools/slurm_train.sh', 'PARTITION', 'JOB', 'CONFIG', 'WORK_DIR'),
]


@pytest.mark.parametrize('arguments', LAUNCHERS, ids=lambda a: a[0])
def test_launchers_set_it(launch, arguments):
    settings = dict(zip(NAMES, launch(*arguments)))
    assert settings['MALLOC_MMAP_MAX_'] == '0'
    assert int(settings['MALLOC_TRIM_THRESHOLD_']) >= 2**40
    assert settings['GLIBC_TUNABLES'] == 'glibc.malloc.hugetlb=1'


@pytest.mark.parametrize('arguments', LAUNCHERS, ids=lambda a: a[0])
def test_what_the_user_has_set_stays(launch, arguments):
    found = launch(*arguments, MALLOC_TRIM_THRESHOLD_='123', GLIBC_TUNABLES='glibc.malloc.check=0')
    assert found == ['0', '123', 'glibc.malloc.check=0']


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='another libc')
def test_large_blocks_are_kept():
    command = ['bash', '-c', '. tools/allocator.sh; exec "$0" -c "$1"', sys.executable, FAULTS]
    env = {key: value for key, value in os.environ.items() if key not in NAMES}
    done = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True, check=True)
    assert int(done.stdout) < 5
