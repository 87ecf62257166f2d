"""What a connection still has to send: in order, merged where it can be, and bounded."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from ekiden.protocol import Delta, ServerFrame, encode

FRAME_OVERHEAD_BYTES = 120


class _OpenDelta:
    """The newest unsent delta of a job: later text joins it."""

    __slots__ = ("cursor", "job", "texts")

    def __init__(self, delta: Delta) -> None:
        self.job = delta.job
        self.cursor = delta.cursor
        self.texts = [delta.text]


class Outbox:
    """Frames on their way to one client. Event loop only.

    Never refuses a frame; who fills it asks `full` first. Subscriptions then skip frames and catch up from the store
    when `on_drained` is called, and the reader of the connection waits for `room`.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._frames: deque[str | _OpenDelta] = deque()
        self._open: dict[str, _OpenDelta] = {}
        self._bytes = 0
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
            text = encode(frame)
            self._frames.append(text)
            self._bytes += len(text)
        if self.full:
            self._was_full = True
            self._room.clear()
        self._filled.set()

    async def send_all(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send frames as they come, until cancelled. Raises what `send` raises."""
        while True:
            await self._filled.wait()
            while self._frames:
                await send(self._next())
            self._filled.clear()

    def _next(self) -> str:
        frame = self._frames.popleft()
        if isinstance(frame, _OpenDelta):
            if self._open.get(frame.job) is frame:
                del self._open[frame.job]
            text = "".join(frame.texts)
            self._bytes -= FRAME_OVERHEAD_BYTES + len(text.encode())
            frame = encode(Delta(job=frame.job, cursor=frame.cursor, text=text))
        else:
            self._bytes -= len(frame)
        if self._was_full and self._bytes <= self._max_bytes // 2:
            self._was_full = False
            self._room.set()
            self.on_drained()
        return frame
