"""One watcher of one job: makes the contract's frames, each once, of what the store says in any order and with loss."""

import time

from ekiden.errors import BY_CODE, EkidenError, Expired
from ekiden.jobs import State
from ekiden.protocol import Delta, Done, Error, Moved, Parked, Queued, ServerFrame, Started, Timings, Usage
from ekiden.store.types import Snapshot
from ekiden.wire import AnyFrame, ChangedFrame, DeltaFrame, EndedFrame, MovedFrame, Record, StartedFrame

QUEUED_EVERY_S = 1.0


class Feed:
    """The cursor rule. Sans-IO: callers hand in frames and snapshots and send what comes out.

    `gap` is set when something is missing: the store must be asked for a snapshot from `cursor` on.
    """

    __slots__ = (
        "_end_heard",
        "_heard",
        "_parks",
        "_position",
        "_queued_at",
        "_started",
        "attempt",
        "changed",
        "client_id",
        "cursor",
        "ended",
        "gap",
        "job",
    )

    def __init__(self, job: str, client_id: str | None, cursor: int = 0) -> None:
        self.job = job
        self.client_id = client_id
        self.cursor = cursor
        self.attempt = 0
        self.ended = False
        self.gap = False
        self._started = False
        self._heard = 0  # the highest cursor that any frame spoke of
        self._end_heard = False
        self._parks = 0
        self.changed = False
        """The store says that a snapshot would differ, and was not asked since."""
        self._position: int | None = None
        self._queued_at = 0.0

    def told(self, attempt: int, *, started: bool, parks: int = 0) -> None:
        """The client knows this already."""
        self.attempt = attempt
        self._started = started
        self._parks = parks

    def told_position(self, position: int) -> None:
        """The client knows its place in the queue."""
        self._position = position
        self._queued_at = time.monotonic()

    def on_frame(self, frame: AnyFrame) -> list[ServerFrame]:
        """Frames for the client that follow from a live frame."""
        if self.ended:
            return []
        if isinstance(frame, DeltaFrame):
            self._heard = max(self._heard, frame.start + len(frame.records))
        self._end_heard |= isinstance(frame, EndedFrame)
        if isinstance(frame, DeltaFrame | EndedFrame) and frame.attempt and not self._started:
            # Its start was lost, or it ended before it started: the store knows.
            self.gap = True
            return []
        if isinstance(frame, DeltaFrame):
            return self._on_records(frame.start, frame.records)
        if isinstance(frame, EndedFrame):
            return self._on_ended(frame)
        if isinstance(frame, ChangedFrame):
            self.gap = self.changed = True
            return []
        if isinstance(frame, StartedFrame):
            return self._on_attempt(frame.attempt, frame.dropped_turns, started=True)
        assert isinstance(frame, MovedFrame)
        return self._on_attempt(frame.attempt, 0, started=False)

    def on_snapshot(self, snapshot: Snapshot) -> list[ServerFrame]:
        """Frames for the client that follow from the store's present state."""
        if self.ended:
            return []
        if snapshot.expired and self.cursor < snapshot.cursor:
            return self.fail(Expired("The answer ended, and is not kept any more."))
        # A snapshot may be older than a frame that was heard while it was on its way.
        stale = snapshot.attempt < self.attempt
        parked = [] if stale else self._on_parks(snapshot.parks)
        held = snapshot.state is State.PARKED
        frames = [] if held else parked  # it went on since
        frames += self._on_attempt(snapshot.attempt, snapshot.dropped_turns, started=snapshot.started)
        frames += self._on_records(snapshot.cursor - len(snapshot.records), snapshot.records)
        if snapshot.ended:
            frames += self._on_ended(snapshot.ended)
        elif held:
            frames += parked
        elif snapshot.state is State.QUEUED and not stale:
            frames += self._on_position(snapshot.position)
        unheard = self.cursor < self._heard or (self._end_heard and not self.ended)
        self.gap = unheard or self.changed or (stale and not self.ended)
        return frames

    def fail(self, error: EkidenError) -> list[ServerFrame]:
        """End the feed with an error of this job."""
        if self.ended:
            return []
        self.ended = True
        return [error_frame(error, self.client_id, self.job)]

    def _on_attempt(self, attempt: int, dropped_turns: int, *, started: bool) -> list[ServerFrame]:
        frames: list[ServerFrame] = []
        if started and not self._started:
            self._started = True
            # A move may have been heard before the start of the attempt that it followed.
            attempt = max(attempt, self.attempt)
            frames.append(Started(job=self.job, attempt=attempt, dropped_turns=dropped_turns))
        elif attempt > max(1, self.attempt):
            frames.append(Moved(job=self.job, attempt=attempt))
        self.attempt = max(self.attempt, attempt)
        return frames

    def _on_records(self, start: int, records: list[Record]) -> list[ServerFrame]:
        if start > self.cursor:
            self.gap = True
            return []
        new = records[self.cursor - start :]
        if not new:
            return []
        self.cursor += len(new)
        text = "".join([record.text for record in new])
        return [Delta(job=self.job, cursor=self.cursor, text=text)] if text else []

    def _on_ended(self, end: EndedFrame) -> list[ServerFrame]:
        if end.cursor > self.cursor:
            self.gap = True
            return []
        self.ended = True
        return [ended_frame(end, self.client_id)]

    def _on_parks(self, parks: int) -> list[ServerFrame]:
        if parks <= self._parks:
            return []
        self._parks = parks
        self._position, self._queued_at = None, -QUEUED_EVERY_S  # what comes next is told at once
        return [Parked(job=self.job)]

    def _on_position(self, position: int) -> list[ServerFrame]:
        now = time.monotonic()
        if position == self._position or now - self._queued_at < QUEUED_EVERY_S:
            return []
        self.told_position(position)
        return [Queued(job=self.job, position=position)]


def ended_frame(end: EndedFrame, client_id: str | None) -> ServerFrame:
    """The one terminal event of a job, as clients see it."""
    if end.state == State.ERROR:
        kind = BY_CODE.get(end.code or "internal", EkidenError)
        return Error(
            code=end.code or "internal",
            message=end.message or "The job failed.",
            id=client_id,
            job=end.job,
            retryable=kind.retryable,
        )
    return Done(
        job=end.job,
        cursor=end.cursor,
        finish_reason=end.finish_reason,  # type: ignore[arg-type]
        usage=Usage(end.prompt_tokens, end.cursor, end.cached_tokens, end.retokenized_tokens),
        timings=Timings(end.queue_ms, end.ttft_ms, end.total_ms),
    )


def error_frame(error: EkidenError, client_id: str | None, job: str | None = None) -> Error:
    """An error as clients see it."""
    return Error(
        code=error.code,
        message=str(error),
        id=client_id,
        job=job,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
    )
