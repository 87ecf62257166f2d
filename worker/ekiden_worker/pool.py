"""A Celery pool whose processes are the slots of a continuous batch.

A message is a wake-up, not an assignment: it makes the worker ask the store for jobs. One that brought a job holds its
slot until that job ends; one that found nothing frees it at once.
"""

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog
from celery.concurrency.base import BasePool

if TYPE_CHECKING:
    from ekiden_worker.runner import Runner

log = structlog.get_logger()


def _nothing() -> None:
    """Makes the hub look around once."""


class EnginePool(BasePool):  # type: ignore[misc]
    """Hub thread only, but for `slots_changed` and the releases it hands out."""

    signal_safe = False
    body_can_be_buffer = True
    task_join_will_block = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._runner: Runner = self.app.runner
        self._runner.on_slots = self.slots_changed
        self._numbers = itertools.count(1)
        self._held: set[int] = set()
        self._hub: Any = None

    def register_with_event_loop(self, loop: Any) -> None:
        """Celery calls this again after each reconnect, with the hub of the new connection."""
        self._hub = loop

    def on_apply(
        self,
        target: Any,
        args: Any = None,
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **_options: Any,
    ) -> None:
        """Take a wake-up. Its content does not matter: the store chooses which job is next."""
        number = next(self._numbers)
        started = time.monotonic()
        self._held.add(number)
        accept_callback(number, started)

        def release() -> None:
            self._post(lambda: self._free(number, callback, started))

        self._runner.wake_up(release)

    def slots_changed(self) -> None:
        """A job ended: Celery may fetch again. Any thread."""
        self._post(_nothing)

    def on_stop(self) -> None:
        """Warm shutdown, main thread: the hub's loop has ended."""
        self._runner.leave()

    def terminate_job(self, pid: int, signal: Any = None) -> None:
        """Celery cannot revoke a job; cancel goes through the store."""

    @property
    def num_processes(self) -> int:
        """Celery fetches while it holds fewer messages than this."""
        return len(self._held) + self._runner.free_slots

    def _free(self, number: int, callback: Any, started: float) -> None:
        self._held.discard(number)
        callback((0, None, time.monotonic() - started))

    def _post(self, function: Callable[[], None]) -> None:
        hub = self._hub
        if hub is not None:
            hub.call_soon(function)
