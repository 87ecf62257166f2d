"""The requests that an engine has taken on and not ended, for the threads around it."""

import threading
import time

from ekiden_worker.engine.interface import EngineError


class OpenRequests:
    """Their ids, whether the engine is held, and when its last step ended. Any thread."""

    def __init__(self) -> None:
        self.held = False
        self.last_step = 0.0  # on the monotonic clock
        self._ids: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, request_id: str) -> None:
        """A request was submitted. Raises EngineError `duplicate_request`."""
        with self._lock:
            if request_id in self._ids:
                raise EngineError("duplicate_request", f"The request {request_id} is already running.")
            if not self._ids:
                self.stepped()  # an idle engine does not hang
            self._ids.add(request_id)

    def discard(self, request_id: str) -> None:
        """It ended."""
        with self._lock:
            self._ids.discard(request_id)

    def hold(self, held: bool) -> None:
        """Whether no step is to be taken."""
        self.stepped()  # a held engine does not hang
        self.held = held

    def stepped(self) -> None:
        """A step ended."""
        self.last_step = time.monotonic()

    @property
    def last_step_age_s(self) -> float | None:
        """See EngineStats."""
        return time.monotonic() - self.last_step if self._ids and not self.held else None
