"""A worker that is told to stop does so, whatever its main thread was doing when the signal came."""

import os
import signal
from collections.abc import Iterator

import pytest
from celery.worker import state
from kombu.asynchronous import Hub

from ekiden_worker.app import QuietWorker
from tests.support.waiting import until


@pytest.fixture
def worker() -> Iterator[QuietWorker]:
    """A worker with a hub and our handlers; nothing of it runs."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    worker = QuietWorker.__new__(QuietWorker)
    worker.hub = Hub()
    worker.stop_on_signals()
    yield worker
    for number, handler in before.items():
        signal.signal(number, handler)
    state.should_stop = None
    worker.hub.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_finds_the_hub_locked_stops_the_worker(worker: QuietWorker, number: signal.Signals) -> None:
    with worker.hub._ready_lock:  # as while it takes what is ready
        os.kill(os.getpid(), number)
        until(lambda: state.should_stop is not None, what="the word to stop")
        assert not worker.hub._ready
    until(lambda: bool(worker.hub._ready), what="a reason for the hub to look around")
