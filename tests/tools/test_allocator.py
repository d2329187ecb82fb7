"""Every launcher hands the allocator's settings to the processes it starts."""

import os
import subprocess

import pytest

from conftest import ROOT

NAMES = ('MALLOC_MMAP_THRESHOLD_', 'MALLOC_TRIM_THRESHOLD_')


@pytest.fixture()
def launch(tmp_path):
    """Run a launcher whose `python` and `srun` only print the settings; return these."""
    for command in ('python', 'srun'):
        stub = tmp_path / command
        stub.write_text(f'#!/bin/sh\necho "${NAMES[0]} ${NAMES[1]}"\n')
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
    mmap, trim = map(int, launch(*arguments))
    assert mmap == 4 * 1024 * 1024 * 8  # DEFAULT_MMAP_THRESHOLD_MAX of glibc; more is ignored
    assert trim == 2**34  # more than a step needs


@pytest.mark.parametrize('arguments', LAUNCHERS, ids=lambda a: a[0])
def test_what_the_user_has_set_stays(launch, arguments):
    assert launch(*arguments, MALLOC_TRIM_THRESHOLD_='123') == ['33554432', '123']
