"""Who on this process watches which job; hands live frames and snapshots to them."""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Iterator

from ekiden.errors import JobLost
from ekiden.jobs import State
from ekiden.protocol import ServerFrame
from ekiden.store.types import Snapshot
from ekiden.wire import AnyFrame, EndedFrame, decode_frames
from ekiden_api.feed import Feed
from ekiden_api.metrics import JobTimes
from ekiden_api.outbox import Outbox

# Frames kept while a snapshot is on its way; more than that are dropped, and asked for again.
MAX_BUFFERED = 1000

SILENT_S = 1.0
SILENT_QUEUED_S = 5.0


class Subscription:
    """One connection's interest in one job. It begins by buffering: the snapshot is applied before live frames.

    `times` are taken of a job that this connection asked for.
    """

    __slots__ = ("_buffer", "_outbox", "_times", "feed", "heard", "running", "syncing")

    def __init__(self, feed: Feed, outbox: Outbox, times: JobTimes | None = None) -> None:
        self.feed = feed
        self._outbox = outbox
        self._times = times
        self._buffer: list[AnyFrame] = []
        self.syncing = True
        self.running = False
        self.heard = time.monotonic()

    @property
    def lagging(self) -> bool:
        """The client is too slow: frames are skipped until its outbox has drained."""
        return self._outbox.full

    @property
    def silent(self) -> bool:
        """Nothing was heard for so long that something may have been lost."""
        limit = SILENT_S if self.running else SILENT_QUEUED_S
        return time.monotonic() - self.heard > limit

    def on_frame(self, frame: AnyFrame) -> None:
        """A live frame of this job."""
        self.heard = time.monotonic()
        self.running = True
        if self.syncing:
            if len(self._buffer) < MAX_BUFFERED:
                self._buffer.append(frame)
        elif self.lagging:
            self.feed.gap = True
        else:
            self._deliver(frame)

    def begin(self, snapshot: Snapshot | None = None) -> None:
        """Apply the state of the store, if it was asked for, and what came meanwhile."""
        self.heard = time.monotonic()
        self.syncing = False
        if snapshot:
            self.running = snapshot.attempt > 0 and snapshot.state is not State.PARKED
            self._put(self.feed.on_snapshot(snapshot))
            if snapshot.ended:
                self._end(snapshot.ended)
        buffered, self._buffer = self._buffer, []
        for frame in buffered:
            self._deliver(frame)

    def fail(self, error: JobLost) -> None:
        """The job is gone."""
        self._put(self.feed.fail(error))

    def _deliver(self, frame: AnyFrame) -> None:
        self._put(self.feed.on_frame(frame))
        if isinstance(frame, EndedFrame):
            self._end(frame)

    def _put(self, frames: list[ServerFrame]) -> None:
        for frame in frames:
            self._outbox.put(frame)
        if self._times and self._times.awaits_text:
            self._times.on_frames(frames)

    def _end(self, end: EndedFrame) -> None:
        if self._times and self.feed.ended:
            self._times.on_end(end)
            self._times = None


class Hub:
    """All subscriptions of this process, under one replica id. Event loop only."""

    def __init__(self) -> None:
        self.replica = secrets.token_hex(8)
        self._watched: dict[str, set[Subscription]] = defaultdict(set)
        self._left: dict[str, None] = {}
        self._detaching: dict[str, asyncio.Event] = {}
        self.changed = asyncio.Event()
        """Something should be asked or told to the store now."""

    def __len__(self) -> int:
        return len(self._watched)

    async def add(self, subscription: Subscription) -> None:
        """Watch from now on; before the store is told to, so that no frame falls between."""
        job = subscription.feed.job
        if event := self._detaching.get(job):
            await event.wait()
        self._left.pop(job, None)
        self._watched[job].add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Stop watching; when nobody on this process does, the store is told."""
        job = subscription.feed.job
        watching = self._watched.get(job)
        if watching is None:
            return
        watching.discard(subscription)
        if not watching:
            del self._watched[job]
            if not subscription.feed.ended:
                self._left[job] = None
                self.changed.set()

    def forget(self, subscription: Subscription) -> None:
        """Stop watching a job that the store never had: there is nobody to tell."""
        self._watched.pop(subscription.feed.job, None)

    def doubt(self, subscription: Subscription) -> None:
        """One job may have changed unheard."""
        subscription.feed.gap = True
        self.changed.set()

    def dispatch(self, payload: bytes) -> None:
        """Frames from the store, as published to this replica."""
        for frame in decode_frames(payload):
            for subscription in tuple(self._watched.get(frame.job, ())):
                subscription.on_frame(frame)
                if subscription.feed.gap and not subscription.lagging:
                    self.changed.set()
            if isinstance(frame, EndedFrame):
                self._forget_ended(frame.job)

    def apply(self, snapshot: Snapshot) -> None:
        """State that was asked for again."""
        for subscription in tuple(self._watched.get(snapshot.job, ())):
            if subscription.syncing or subscription.lagging:
                continue
            subscription.begin(snapshot)
        self._forget_ended(snapshot.job)

    def lose(self, job: str) -> None:
        """The store has no record of a job that it had acknowledged."""
        for subscription in self._watched.pop(job, set()):
            subscription.fail(JobLost("The job store lost this job; send it again."))

    def distrust(self) -> None:
        """The live channel was interrupted: everything may have changed."""
        for subscriptions in self._watched.values():
            for subscription in subscriptions:
                subscription.feed.gap = True
        self.changed.set()

    def questions(self) -> Iterator[tuple[str, int, int]]:
        """Jobs to ask the store about: (job, cursor, attempt)."""
        for job, subscriptions in list(self._watched.items()):
            asking = [s for s in subscriptions if not s.syncing and not s.lagging and (s.feed.gap or s.silent)]
            if asking:
                feeds = [subscription.feed for subscription in asking]
                # No attempt has the number 0: the answer comes even if nothing else has changed.
                attempt = 0 if any(feed.changed for feed in feeds) else min(feed.attempt for feed in feeds)
                for subscription in asking:
                    subscription.heard = time.monotonic()
                    subscription.feed.changed = False
                yield job, min(feed.cursor for feed in feeds), attempt

    def detach_next(self) -> str | None:
        """A job to tell the store about that nobody here watches any more; `detached` must follow."""
        while self._left:
            job = next(iter(self._left))
            del self._left[job]
            if job not in self._watched:
                self._detaching[job] = asyncio.Event()
                return job
        return None

    def detached(self, job: str, *, done: bool) -> None:
        """The store knows, or could not be told."""
        self._detaching.pop(job).set()
        if not done and job not in self._watched:
            self._left[job] = None

    def _forget_ended(self, job: str) -> None:
        watching = self._watched.get(job, set())
        if watching and all(subscription.feed.ended for subscription in watching):
            del self._watched[job]
