"""What a worker counts of itself: plain numbers, written by the thread they belong to and read from any."""

import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from ekiden.store.types import ITL_BOUNDS_MS

APPEND_BOUNDS_MS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
RECENT_STEPS = 64
RECENT_MS = 1000.0


class Histogram:
    """How many values lie in each bucket; `counts` has one more than there are bounds, for what is above them all.

    A value that equals a bound is in that bound's bucket.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """The sum of all values."""

    def add(self, value: float, times: int = 1) -> None:
        """Count a value so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the engine that made ids. `ms`: since the step before it; None where that one had no part in it."""

    ended_s: float
    batch: int
    ms: float | None


@dataclass(frozen=True, slots=True)
class Pace:
    """Means over the steps of the last second. `step_ms` is None where no two steps followed each other."""

    batch_size: float
    step_ms: float | None


class Figures:
    """The figures of one worker since its start. IO thread only, but for reading.

    A reader may find one number a step ahead of another.
    """

    def __init__(self) -> None:
        self.tokens = 0
        """Ids that the engine generated for jobs of this worker."""
        self.itl_ms = Histogram(ITL_BOUNDS_MS)
        """Gaps between two outputs of a request, as the engine made them."""
        self.steps_ms = Histogram(ITL_BOUNDS_MS)
        """The same once for each step."""
        self.appends_ms = Histogram(APPEND_BOUNDS_MS)
        """Round trips that wrote tokens to the store."""
        self.unwritten_tokens = 0
        self.fenced_jobs = 0
        """Jobs this worker lost to another one."""
        self._recent: list[Step | None] = [None] * RECENT_STEPS
        self.steps = 0
        """Steps that made ids."""
        self.rows = 0
        """The requests that they made ids for, all steps together."""

    def step(self, ended_s: float, since_s: Mapping[float, int], tokens: int) -> None:
        """A step made `tokens` ids; `since_s`: of how many requests the last output was when, 0 for their first one.

        Times are monotonic.
        """
        self.tokens += tokens
        for last_s, requests in since_s.items():
            if last_s:
                self.itl_ms.add(1000 * (ended_s - last_s), requests)
        batch = sum(since_s.values())
        if not batch:
            return
        before_s = max(since_s)
        ms = 1000 * (ended_s - before_s) if before_s else None
        if ms is not None:
            self.steps_ms.add(ms)
        self._recent[self.steps % RECENT_STEPS] = Step(ended_s, batch, ms)
        self.rows += batch
        self.steps += 1

    def pace(self) -> Pace | None:
        """How the engine goes just now; None when it made nothing within the last second."""
        since_s = time.monotonic() - RECENT_MS / 1000
        steps = [step for step in self._recent[:] if step and step.ended_s >= since_s]
        if not steps:
            return None
        timed = [step.ms for step in steps if step.ms is not None]
        return Pace(sum(step.batch for step in steps) / len(steps), sum(timed) / len(timed) if timed else None)
