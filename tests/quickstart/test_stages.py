"""Progress of the quickstart."""

import threading
import time

import pytest

from mcl_mm.quickstart.stages import Stages, watch


def test_stages_are_numbered_and_timed(capsys):
    stages = Stages(['first', 'second'])
    for title in ('first', 'second'):
        with stages.stage(title) as update:
            update(0.5)
            time.sleep(0.02)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(']')[0] for line in lines if 'min' in line] == ['[1/2', '[2/2']
    assert all(0.02 <= 60 * minutes < 5 for minutes in stages.minutes.values())


def test_a_stage_that_fails_is_not_timed():
    stages = Stages(['first'])
    with pytest.raises(OSError, match='full'), stages.stage('first'):
        raise OSError('the disk is full')
    assert stages.minutes == {}


def test_jobs_return_in_their_order_and_no_more_run_at_once():
    running, most, lock = [0], [0], threading.Lock()

    def job(number):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.05 * (4 - number))
        with lock:
            running[0] -= 1
        return number

    shares = []
    jobs = [lambda number=number: job(number) for number in range(4)]
    assert watch(jobs, lambda: 0.25, shares.append, at_once=2) == [0, 1, 2, 3]
    assert most[0] == 2
    assert set(shares) == {0.25}


def test_the_first_failure_ends_the_rest():
    begun = []

    def fail():
        raise ValueError('no')

    jobs = [fail, *(lambda n=n: (begun.append(n), time.sleep(0.2)) for n in range(5))]
    with pytest.raises(ValueError, match='no'):
        watch(jobs, lambda: 0, lambda share: None, at_once=1)
    assert len(begun) <= 1
