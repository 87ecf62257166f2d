"""When to try again and when to give up; knows no network."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class Retry:
    """The client tries again after `delay_s`; `reason` is one sentence."""

    reason: str
    delay_s: float


class Announcer:
    """Tells of each new reason once, so that nobody waits without knowing for what, or reads it again and again."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._told = ""

    def __call__(self, retry: Retry) -> None:
        if retry.reason != self._told:
            self._told = retry.reason
            self._tell(f"{retry.reason} Trying again.")

    def recovered(self) -> None:
        """It went well: the same reason would be news."""
        self._told = ""


class Backoff:
    """Delays that double up to a bound; jitter keeps a crowd of clients from coming back at one moment."""

    def __init__(self) -> None:
        self._limit_s = FIRST_DELAY_S

    def next_s(self) -> float:
        """The delay before the next attempt."""
        delay_s = random.uniform(0.5, 1.0) * self._limit_s
        self._limit_s = min(2 * self._limit_s, LONGEST_DELAY_S)
        return delay_s

    def reset(self) -> None:
        """It went well: the next delay is the shortest."""
        self._limit_s = FIRST_DELAY_S


class Patience:
    """How long one thing may keep failing: `limit_s`, or for ever when that is None."""

    def __init__(self, limit_s: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._since: float | None = None

    def begin(self) -> None:
        """It fails from now on, unless it did already."""
        if self._since is None:
            self._since = self._clock()

    def restore(self) -> None:
        """It went well."""
        self._since = None

    def spent(self, delay_s: float) -> bool:
        """Whether another attempt after `delay_s` would come too late."""
        self.begin()
        assert self._since is not None
        return self._limit_s is not None and self._clock() + delay_s - self._since > self._limit_s
