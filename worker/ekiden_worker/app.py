"""The Celery application of a worker."""

import signal
import threading
import uuid
import warnings
from queue import SimpleQueue
from types import FrameType
from typing import Any

from celery import Celery, signals
from celery.apps.worker import Worker
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.platforms import EX_OK
from celery.worker import state

from ekiden.broker import TASK, create_celery
from ekiden.settings import Settings
from ekiden_worker.runner import Runner


class WorkerApp(Celery):  # type: ignore[misc]
    """A Celery app that its pool reaches the runner through."""

    runner: Runner


class QuietWorker(Worker):  # type: ignore[misc]
    """A Celery worker without a banner, that stops at once when it is told to."""

    def stop_on_signals(self) -> None:
        """Own handlers: Celery's would wait for its poll's time-out, and SIGINT may have been ignored by our parent."""
        # The hub has a lock that this thread may hold when the signal comes: another one wakes it. A put needs no lock.
        told: SimpleQueue[None] = SimpleQueue()

        def stop(_number: int, _frame: FrameType | None) -> None:
            state.should_stop = EX_OK
            told.put(None)

        def wake() -> None:
            while True:
                told.get()
                if hub := getattr(self, "hub", None):
                    hub.call_soon(lambda: None)

        threading.Thread(target=wake, name="signals", daemon=True).start()
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    def install_platform_tweaks(self, worker: Any) -> None:
        """Celery would take the signals."""

    def on_start(self) -> None:
        """Celery has turned its own warnings on; one is about tasks whose connection is lost: ours hold no work."""
        super().on_start()
        warnings.simplefilter("ignore", CPendingDeprecationWarning)

    def set_process_status(self, info: str) -> None:
        """Celery would rename the process; operators look for its command line."""


def _keep_our_logging(**_options: Any) -> None:
    """A receiver of this signal is how Celery is told to leave logging alone."""


def serve(settings: Settings, runner: Runner) -> int:
    """Receive wake-ups until SIGTERM or SIGINT. Main thread. Returns the exit status."""
    signals.setup_logging.connect(_keep_our_logging, weak=False)
    app: WorkerApp = create_celery(settings, WorkerApp)
    app.runner = runner

    @app.task(name=TASK, bind=False, ignore_result=True)  # type: ignore[untyped-decorator]
    def generate(job: str) -> None:
        """Known to Celery by name; the pool takes the message before it would run."""

    with warnings.catch_warnings():
        # Celery warns root, for the sake of pickle, which is not accepted here.
        warnings.simplefilter("ignore", SecurityWarning)
        worker = QuietWorker(
            app=app,
            hostname=f"ekiden-{uuid.uuid4().hex[:8]}@%h",
            concurrency=settings.max_running,
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            pool="ekiden_worker.pool:EnginePool",
        )
        # A worker that the store knows must not die of a signal: its jobs would wait for its lease to end.
        worker.stop_on_signals()
        runner.join()
        worker.start()
    return int(worker.exitcode or 0)
