"""Celery messages that tell workers of new jobs, sent from one thread."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import redis
import structlog
from kombu.exceptions import OperationalError

from ekiden.broker import TASK, create_celery, queue_key
from ekiden.settings import Settings
from ekiden.store import BlockingStore

log = structlog.get_logger()

MAX_WAITING = 1000

# Messages in the store beyond which no more are sent: without workers nobody takes them, and they outlive their jobs.
MAX_UNREAD = 1000


class WakeUps:
    """Sends and forgets: the record of the job is the truth, and workers find it without a message, a little later."""

    def __init__(self, settings: Settings) -> None:
        self._app = create_celery(settings)
        self._store = BlockingStore(settings)
        self._queue = queue_key(settings)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="wake-ups")
        self._waiting = 0

    def send(self, job: str) -> None:
        """Tell the workers that there is a job; returns at once. Event loop only."""
        if self._waiting < MAX_WAITING:
            self._waiting += 1
            self._thread.submit(self._send, job)

    def _send(self, job: str) -> None:
        try:
            if self._store.redis.llen(self._queue) < MAX_UNREAD:
                self._app.send_task(TASK, (job,), retry=False)
        except (OperationalError, redis.RedisError, OSError) as error:
            log.warning("wake_up_not_sent", job=job, error=type(error).__name__)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._app.close()
        self._store.close()


@contextmanager
def waking(settings: Settings) -> Iterator[WakeUps]:
    """Wake-ups for the length of a `with` block."""
    wake_ups = WakeUps(settings)
    try:
        yield wake_ups
    finally:
        wake_ups.close()
