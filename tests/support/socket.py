"""A raw WebSocket client for tests: what a stranger with the contract in hand would write."""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

Frame = dict[str, Any]


class Socket:
    """One connection; remembers every frame and holds the server to the contract."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.frames: list[Frame] = []

    async def send(self, **frame: Any) -> None:
        await self.connection.send(json.dumps(frame))

    async def receive(self, timeout_s: float = 20) -> Frame:
        """The next frame."""
        import asyncio

        text = await asyncio.wait_for(self.connection.recv(), timeout_s)
        frame: Frame = json.loads(text)
        self.frames.append(frame)
        return frame

    async def until(self, kind: str, job: str | None = None, timeout_s: float = 40) -> Frame:
        """The next frame of a type, of a job if one is named; what comes before it is kept in `frames`."""
        while True:
            frame = await self.receive(timeout_s)
            if frame["type"] == kind and (job is None or frame.get("job") == job):
                return frame

    async def chat(self, text: str = "Hello", **fields: Any) -> str:
        """Ask, and return the job once it is accepted."""
        fields = {"id": str(uuid.uuid4()), "messages": [{"role": "user", "content": text}], **fields}
        await self.send(type="chat", **fields)
        frame = await self.until("accepted")
        assert frame["id"] == fields["id"]
        return str(frame["job"])

    async def answer(self, job: str, timeout_s: float = 60) -> str:
        """Receive until the job's terminal event; its text so far on this connection."""
        while not self.ended(job):
            await self.receive(timeout_s)
        return self.text(job)

    def of(self, job: str) -> list[Frame]:
        """Frames of a job so far."""
        return [frame for frame in self.frames if frame.get("job") == job]

    def ended(self, job: str) -> bool:
        """The terminal event came."""
        return any(frame["type"] in ("done", "error") for frame in self.of(job))

    def text(self, job: str) -> str:
        """Joined deltas; cursors must rise, and nothing may follow the end."""
        frames = self.of(job)
        deltas = [frame for frame in frames if frame["type"] == "delta"]
        cursors = [frame["cursor"] for frame in deltas]
        assert cursors == sorted(set(cursors))
        ends = [number for number, frame in enumerate(frames) if frame["type"] in ("done", "error")]
        assert ends in ([], [len(frames) - 1])
        return "".join(frame["text"] for frame in deltas)


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[Socket]:
    """A connection for the length of an `async with` block."""
    async with connect(url, max_size=None, **options) as connection:
        yield Socket(connection)


async def closed(socket: Socket) -> tuple[int | None, str | None]:
    """Receive until the server closes the connection; its code and reason."""
    with suppress(ConnectionClosed):
        while True:
            await socket.receive()
    return socket.connection.close_code, socket.connection.close_reason
