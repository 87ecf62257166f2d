"""A stranger with a raw WebSocket beside the clients: it counts what the client library would hide."""

import asyncio
import json
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

EVERY = 10
"""It follows one job in so many."""
RETRY_S = 0.1


class Witness:
    """Follows jobs on one connection at a time, and holds each to one end with nothing behind it. Event loop only."""

    def __init__(self, urls: list[str]) -> None:
        self._urls: Iterator[str] = cycle(url.replace("http", "ws", 1) + "/v1/chat" for url in urls)
        self._known: set[str] = set()
        self._open: set[str] = set()
        self._asking: asyncio.Queue[str] = asyncio.Queue()
        self.wrong: list[str] = []

    @property
    def done(self) -> bool:
        """Every job that it follows has ended."""
        return not self._open

    def follow(self, job: str) -> None:
        """One in `EVERY` is followed from its beginning to its end; a job may be named again."""
        if job not in self._known:
            self._known.add(job)
            if len(self._known) % EVERY == 0:
                self._open.add(job)
                self._asking.put_nowait(job)

    async def watch(self) -> None:
        """Connect, again whenever the connection is lost; until cancelled."""
        while True:
            try:
                async with connect(next(self._urls), max_size=None, ping_interval=1, ping_timeout=1) as connection:
                    await self._on_connection(connection)
            except* (OSError, WebSocketException):
                await asyncio.sleep(RETRY_S)

    async def _on_connection(self, connection: ClientConnection) -> None:
        self._asking = asyncio.Queue()
        for job in self._open:
            self._asking.put_nowait(job)
        ended = set[str]()
        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(self._ask(connection))
            async for text in connection:
                self._on_frame(json.loads(text), ended)
            asking.cancel()

    async def _ask(self, connection: ClientConnection) -> None:
        while True:
            job = await self._asking.get()
            await connection.send(json.dumps({"type": "attach", "id": job, "job": job, "cursor": 0}))

    def _on_frame(self, frame: dict[str, Any], ended: set[str]) -> None:
        job = frame.get("job")
        if job in ended:
            self.wrong.append(f"{job}: {frame['type']} after its end")
        elif job is not None and frame["type"] in ("done", "error"):
            ended.add(job)
            self._open.discard(job)
        elif frame["type"] == "error" and frame["retryable"]:  # the store was away
            asyncio.get_running_loop().call_later(RETRY_S, self._asking.put_nowait, frame["id"])
        elif frame["type"] == "error":
            self.wrong.append(f"{frame['id']}: {frame['code']}")
            self._open.discard(frame["id"])
