"""Who dies of a signal, and who remembers it."""

import os
import signal

import pytest

from mcl_mm.engine.stop_signal import StopSignal


@pytest.fixture
def stop_signal():
    stop = StopSignal()
    stop.listen()
    yield stop
    stop.close()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_the_run_remembers(stop_signal, number):
    assert not stop_signal.agreed()
    os.kill(os.getpid(), number)
    assert stop_signal.agreed()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_process_forked_meanwhile(stop_signal, number):
    """A data worker that has no handlers of its own yet: ended by SIGTERM, or the run waits for it."""
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), number)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == (-signal.SIGTERM if number == signal.SIGTERM else 0)
    assert not stop_signal.agreed()


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    stop = StopSignal()
    stop.listen()
    assert signal.getsignal(signal.SIGTERM) != before
    stop.close()
    assert signal.getsignal(signal.SIGTERM) == before
