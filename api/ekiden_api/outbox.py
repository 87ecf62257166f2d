"""What a connection still has to send: in order, merged where it can be, and bounded."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from ekiden.protocol import Delta, ServerFrame, encode_bytes

log = structlog.get_logger()

FRAME_OVERHEAD_BYTES = 120
WRITE_BYTES = 65536  # of frames that are written in one call


class _OpenDelta:
    """The newest unsent delta of a job: later text joins it."""

    __slots__ = ("cursor", "job", "texts")

    def __init__(self, delta: Delta) -> None:
        self.job = delta.job
        self.cursor = delta.cursor
        self.texts = [delta.text]


class Channel(Protocol):
    """The way to one client's socket without a detour: bytes of text frames, written in one go."""

    @property
    def ready(self) -> bool:
        """The client is there, and takes what is written."""

    def write(self, frames: list[bytes]) -> None:
        """Write frames; only while it is ready."""


class Rounds:
    """Brings what many outboxes hold to their channels, in one callback of the event loop. Event loop only.

    A wake-up of a task for each connection would cost more than the frame that it sends.
    """

    def __init__(self) -> None:
        self._due: list[Outbox] = []
        self.frames_sent = 0
        self.deltas_sent = 0
        """Of `frames_sent`, by all outboxes."""

    def add(self, outbox: "Outbox") -> None:
        """Deliver when the loop comes by, together with all that are added until then."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._deliver)
        self._due.append(outbox)

    def _deliver(self) -> None:
        due, self._due = self._due, []
        for outbox in due:
            outbox.deliver()


class Outbox:
    """Frames on their way to one client. Event loop only.

    Never refuses a frame; who fills it asks `full` first. Subscriptions then skip frames and catch up from the store
    when `on_drained` is called, and the reader of the connection waits for `room`.

    Where there is a channel that is ready, frames go there; else `send_all` sends them, which waits for the client.
    """

    def __init__(self, max_bytes: int, rounds: Rounds, channel: Channel | None = None) -> None:
        self._max_bytes = max_bytes
        self._rounds = rounds
        self._channel = channel
        self._frames: deque[bytes | _OpenDelta] = deque()
        self._open: dict[str, _OpenDelta] = {}
        self._bytes = 0
        self._due = False
        self._failure: Exception | None = None
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._was_full = False
        self.on_drained: Callable[[], None] = lambda: None

    @property
    def full(self) -> bool:
        """More is waiting than should be."""
        return self._bytes >= self._max_bytes

    async def room(self) -> None:
        """Wait until it is not full."""
        await self._room.wait()

    def put(self, frame: ServerFrame) -> None:
        """Add a frame; a delta joins the job's unsent one when nothing of that job came between."""
        if isinstance(frame, Delta):
            self._bytes += len(frame.text.encode())
            if open_delta := self._open.get(frame.job):
                open_delta.texts.append(frame.text)
                open_delta.cursor = frame.cursor
            else:
                self._open[frame.job] = open_delta = _OpenDelta(frame)
                self._frames.append(open_delta)
                self._bytes += FRAME_OVERHEAD_BYTES
        else:
            if (job := getattr(frame, "job", None)) is not None:
                self._open.pop(job, None)
            data = encode_bytes(frame)
            self._frames.append(data)
            self._bytes += len(data)
        if self.full:
            self._was_full = True
            self._room.clear()
        if not self._due:
            self._due = True
            self._rounds.add(self)

    def deliver(self) -> None:
        """Write what is there to the channel, or have `send_all` do it."""
        self._due = False
        try:
            # What send_all has begun it must end, or frames would overtake each other.
            while self._frames and self._channel and self._channel.ready and not self._filled.is_set():
                self._channel.write(self._some())
        except Exception as error:
            # Frames are lost: this connection must end, and only this one.
            log.exception("write_failed")
            self._failure = error
        if self._frames or self._failure:
            self._filled.set()

    async def send_all(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send frames that the channel does not take, until cancelled. Raises what `send` or the channel raises."""
        while True:
            await self._filled.wait()
            if self._failure:
                raise self._failure
            while self._frames:
                await send(self._next().decode())
                self._rounds.frames_sent += 1
            self._filled.clear()

    def _some(self) -> list[bytes]:
        """The next frames, up to what is worth a call."""
        frames, size = list[bytes](), 0
        while self._frames and size < WRITE_BYTES:
            frames.append(self._next())
            size += len(frames[-1])
        self._rounds.frames_sent += len(frames)
        return frames

    def _next(self) -> bytes:
        frame = self._frames.popleft()
        if isinstance(frame, _OpenDelta):
            if self._open.get(frame.job) is frame:
                del self._open[frame.job]
            text = "".join(frame.texts)
            self._bytes -= FRAME_OVERHEAD_BYTES + len(text.encode())
            frame = encode_bytes(Delta(job=frame.job, cursor=frame.cursor, text=text))
            self._rounds.deltas_sent += 1
        else:
            self._bytes -= len(frame)
        if self._was_full and self._bytes <= self._max_bytes // 2:
            self._was_full = False
            self._room.set()
            self.on_drained()
        return frame
