"""What this process says of itself to operators, with each renewal of its lease."""

import os
import socket
import time
from collections.abc import Iterator, Sized
from contextlib import contextmanager

import ekiden
from ekiden.store.types import ReplicaInfo


class Presence:
    """Counts who is connected. Event loop only."""

    def __init__(self, watched_jobs: Sized, dashboards: Sized) -> None:
        self._watched_jobs = watched_jobs
        self._dashboards = dashboards
        self._started_ms = round(time.time() * 1000)
        self.connections = 0

    @contextmanager
    def connected(self) -> Iterator[None]:
        """One client more for the length of a `with` block."""
        self.connections += 1
        try:
            yield
        finally:
            self.connections -= 1

    def describe(self) -> ReplicaInfo:
        """As it is now."""
        return ReplicaInfo(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=ekiden.__version__,
            started_ms=self._started_ms,
            connections=self.connections,
            watched_jobs=len(self._watched_jobs),
            dashboards=len(self._dashboards),
        )
