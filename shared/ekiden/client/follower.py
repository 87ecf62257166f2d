"""One answer as the client knows it: what to ask for, what has arrived, what waits to be read. Does no I/O."""

import asyncio
from collections import deque
from enum import Enum, auto

from ekiden.client.errors import error_of
from ekiden.client.retry import Patience
from ekiden.errors import EkidenError
from ekiden.protocol import (
    Accepted,
    AnyServerFrame,
    Attach,
    Attached,
    Cancel,
    Delta,
    Done,
    Error,
    Moved,
    Park,
    Parked,
    Pong,
    Queued,
    Resume,
    Started,
    encode,
)

Event = Accepted | Attached | Queued | Started | Delta | Moved | Parked | Done

AfterResume = Queued | Moved | Started | Delta | Parked
"""Any of these tells that a resume arrived: sent once more, it could undo what others asked for later."""

EVENT_COST = 100
"""Characters that an event counts for in the buffer, beside its text."""


class Phase(Enum):
    """What the present connection knows of this answer."""

    UNASKED = auto()
    ASKED = auto()
    FOLLOWING = auto()
    # The server sends, and nobody reads here: frames are dropped, to be asked for again from the cursor on.
    PAUSED = auto()


class Follower:
    """The cursor rule of the client: every piece of text is buffered once, in order. Event loop only.

    `opening` is the frame that makes the job; without one, `job` is followed from `cursor` on. A buffer of
    `buffer_chars` takes one more event, whatever its size; then the follower pauses until `resume`.
    """

    def __init__(
        self, request_id: str, patience: Patience, buffer_chars: int, *, opening: str = "", job: str | None = None,
        cursor: int = 0,
    ) -> None:  # fmt: skip
        self.id = request_id
        self.job = job
        self.conversation: str | None = None
        self.cursor = cursor  # all text before it was buffered
        self.patience = patience
        self.over = False
        self.terminal: Done | Error | None = None
        self.error: EkidenError | None = None
        self.changed = asyncio.Event()
        self.finished = asyncio.Event()
        self.settled = asyncio.Event()
        """No park is wanted any more: the job is parked, goes on, or is over."""
        self._opening = opening
        self._phase = Phase.UNASKED
        self._cancel_wanted = False
        self._cancel_sent = False
        self._order: type[Park | Resume] | None = None
        self._order_sent = False
        self._events: deque[Event] = deque()
        self._buffered_chars = 0
        self._buffer_chars = buffer_chars

    @property
    def paused(self) -> bool:
        """Frames were dropped: call `resume` when the buffer is empty."""
        return self._phase is Phase.PAUSED

    @property
    def complete(self) -> bool:
        """Everything up to the end was read."""
        return self.over and not self.paused and not self._events

    def next_frame(self) -> str | None:
        if self.over:
            return None
        if self._phase is Phase.UNASKED:
            self._phase = Phase.ASKED
            return self._opening if self.job is None else encode(Attach(id=self.id, job=self.job, cursor=self.cursor))
        if self._cancel_wanted and not self._cancel_sent and self._phase is not Phase.ASKED:
            assert self.job is not None
            self._cancel_sent = True
            return encode(Cancel(id=self.id, job=self.job))
        if self._order and not self._order_sent and self._phase is not Phase.ASKED:
            assert self.job is not None
            self._order_sent = True
            return encode(self._order(id=self.id, job=self.job))
        return None

    def on_frame(self, frame: AnyServerFrame) -> None:
        if isinstance(frame, Accepted | Attached):
            self.job = frame.job
            self.conversation = frame.conversation
            self._phase = Phase.FOLLOWING
            self.patience.restore()
        elif self._phase not in (Phase.FOLLOWING, Phase.PAUSED):
            return  # of an earlier attach, whose frames may overlap those of the one that was just asked for
        if self._order_sent and isinstance(frame, Parked if self._order is Park else AfterResume):
            self._settle()
        if isinstance(frame, Done | Error):
            self._end(frame)
        elif not isinstance(frame, Pong):
            self._put(frame)

    def restart(self) -> None:
        self._phase = Phase.UNASKED
        self._cancel_sent = self._order_sent = False

    def fail(self, error: EkidenError) -> None:
        self.error = error
        self.over = True
        self.finished.set()
        self._settle()
        self.changed.set()

    def cancel(self) -> None:
        """Want the job to end; the link must be told to ask."""
        self._cancel_wanted = True

    def order(self, kind: type[Park | Resume]) -> None:
        """Want the job to be held, or to go on; the link must be told to ask."""
        if self.finished.is_set():
            return
        self._order, self._order_sent = kind, False
        if kind is Park:
            self.settled.clear()
        else:
            self.settled.set()

    def resume(self) -> None:
        """Want what was dropped; the link must be told to ask."""
        self.restart()
        self.over = False

    def take(self) -> Event | None:
        """The next event, in order, if one has arrived."""
        if not self._events:
            return None
        event = self._events.popleft()
        self._buffered_chars -= _cost(event)
        return event

    def _put(self, event: Event) -> None:
        if self._buffered_chars >= self._buffer_chars:
            self._phase = Phase.PAUSED
        if self._phase is Phase.PAUSED:
            return
        if isinstance(event, Delta):
            self.cursor = event.cursor
        self._append(event)

    def _end(self, frame: Done | Error) -> None:
        """The job is over; what was dropped before can still be had."""
        self.terminal = frame
        self.over = True
        self.finished.set()
        self._settle()
        if self.paused:
            return
        if isinstance(frame, Error):
            self.fail(error_of(frame))
        else:
            self._append(frame)

    def _settle(self) -> None:
        self._order = None
        self.settled.set()

    def _append(self, event: Event) -> None:
        self._events.append(event)
        self._buffered_chars += _cost(event)
        self.changed.set()


def _cost(event: Event) -> int:
    return EVENT_COST + (len(event.text) if isinstance(event, Delta) else 0)
