"""A signal raises the flag and does nothing else."""

import os
import signal

import pytest

from operators.stop import Stop


@pytest.fixture
def handlers():
    """The signal handlers come back after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_raises_the_flag(handlers, number):
    stop = Stop()
    stop.on_signals()
    assert not stop.requested
    os.kill(os.getpid(), number)
    assert stop.requested
