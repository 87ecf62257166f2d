"""Ties engine, store and Celery together: the lifetime of a worker's threads."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from ekiden.collector import collect_seldom
from ekiden.exit_codes import ENGINE_LOST
from ekiden.settings import Settings
from ekiden_worker.beat import Beat
from ekiden_worker.io_loop import IoLoop
from ekiden_worker.metrics import WorkerMetrics
from ekiden_worker.report import worker_info
from ekiden_worker.runtime import Runtime

log = structlog.get_logger()


class Runner:
    """What the Celery pool sees of a worker."""

    def __init__(self, settings: Settings, runtime: Runtime, metrics_port: int) -> None:
        self._settings = settings
        self._runtime = runtime
        self.on_slots: Callable[[], None] = lambda: None
        """Called from the IO thread when a slot became free."""
        self._io = IoLoop(settings, runtime, self._slots_changed)
        info = worker_info(settings, runtime, metrics_port)
        self._beat = Beat(settings, info, runtime.engine, self._io, _engine_lost)
        self.metrics = WorkerMetrics(info, runtime.engine, self._io.figures)
        self._serving = False

    @property
    def free_slots(self) -> int:
        return self._io.free_slots

    def wake_up(self, release: Callable[[], None]) -> None:
        """There may be a job; `release` is called once, from the IO thread, when this wake-up's slot is free again."""
        self._io.wake_up(release)

    def warm_up(self) -> None:
        """Make the engine ready. Raises EngineError when it cannot start."""
        self._runtime.engine.start(self._io.outputs)

    def join(self) -> None:
        """Become known to the store and take jobs. From here on the process must `leave` to end well."""
        collect_seldom()
        self._serving = True
        self._io.start()
        self._beat.start()

    def leave(self) -> None:
        """Finish or hand over every job, stop beating. Does nothing before `join` and when called again."""
        if not self._serving:
            return
        self._serving = False
        self._beat.leaving = True
        self._io.leave(self._settings.drain_s)
        self._beat.stop()

    def stop(self) -> None:
        """Leave, then end the engine."""
        self.leave()
        self._runtime.engine.stop()

    def _slots_changed(self) -> None:
        self.on_slots()


def _engine_lost(reason: str) -> None:
    """End the process without a goodbye: the jobs move to others at once, and a supervisor starts a new engine.

    os._exit, because the engine thread may hang in a library call that no exception reaches.
    """
    log.error("engine_lost", reason=reason)
    sys.stderr.flush()
    os._exit(ENGINE_LOST)


@contextmanager
def running(settings: Settings, runtime: Runtime, metrics_port: int = 0) -> Iterator[Runner]:
    """A warm runner for the length of a `with` block. Raises EngineError when the engine cannot start.

    `metrics_port` is what it tells operators: where its metrics are served, 0 for nowhere.
    """
    runner = Runner(settings, runtime, metrics_port)
    runner.warm_up()
    try:
        yield runner
    finally:
        runner.stop()
