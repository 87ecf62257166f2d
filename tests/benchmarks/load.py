"""A light load for benchmarks: many sockets in one event loop, whose frames are split and hardly parsed.

It shares the cores with what it measures. So it reads a delta's job, cursor and text by their places in the frame, and
looks at nothing else before the measurement is over.
"""

import asyncio
import gc
import json
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import uvloop

from tests.support.fake_engine import expected

T = TypeVar("T")

DELTA = b'{"type":"delta","job":"'
JOB = slice(len(DELTA), len(DELTA) + 32)
CURSOR_AT = len(DELTA) + 32 + len('","cursor":')
TEXT_AFTER = len(',"text":"')

TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a measurement on the fastest loop there is, without pauses of the collector."""
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def client_frame(opcode: int, payload: bytes) -> bytes:
    """A frame whose mask is zero, so that nothing has to be masked."""
    size = len(payload)
    head = bytes((opcode, 0x80 | size)) if size < 126 else bytes((opcode, 0xFE)) + size.to_bytes(2, "big")
    return head + bytes(4) + payload


@dataclass(slots=True)
class Answer:
    """One job as its client saw it. `times[n]`, in seconds, is when the delta with `cursors[n]` came."""

    number: int
    tokens: int
    line: "Line"
    accepted: bool = False
    ended: bool = False
    cursors: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)

    def check(self) -> None:
        """Fail unless every token came once, in order."""
        text = b"".join(self.texts).decode()
        whole = expected(self.tokens, seed=self.number)
        assert (text == whole) if self.ended else whole.startswith(text), f"answer {self.number} is not exact"


class Load:
    """Everything that was asked and came. Event loop only. `on_ended` is called with each answer that is over."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.accepted: list[int] = []
        self.tokens = self.deltas = self.ended = 0
        self.on_ended: Callable[[Answer], None] = lambda _: None
        self.lines: list[Line] = []
        self.failures: list[str] = []
        self.by_job: dict[bytes, Answer] = {}
        self._name = secrets.token_hex(4)  # ids are kept: another load on the same store must have others

    def ask(self, line: "Line", tokens: int, **fields: object) -> Answer:
        """Send a chat; its seed is its number, so each answer has a text of its own. `fields` replace the frame's."""
        answer = Answer(len(self.answers), tokens, line)
        self.answers.append(answer)
        params = {"max_tokens": tokens, "seed": answer.number}
        message = {"role": "user", "content": "Hello"}
        frame = {"type": "chat", "id": f"{self._name}-{answer.number}", "messages": [message], "params": params}
        line.send(TEXT, json.dumps(frame | fields).encode())
        return answer

    def on_other(self, payload: bytes) -> None:
        """Any frame but a delta."""
        frame = json.loads(payload)
        if frame["type"] == "accepted":
            answer = self.answers[int(frame["id"].partition("-")[2])]
            answer.accepted = True
            self.accepted.append(answer.number)
            self.by_job[frame["job"].encode()] = answer
        elif frame["type"] == "done":
            answer = self.by_job.pop(frame["job"].encode())
            answer.ended = True
            self.ended += 1
            self.on_ended(answer)
        elif frame["type"] == "error":
            self.failures.append(payload.decode())

    def check(self) -> None:
        """Fail when anything came that should not, or a text is wrong."""
        assert not self.failures, self.failures[:3]
        for answer in self.answers:
            answer.check()


class Crowd:
    """Keeps a number of jobs under way, spread over the sockets: who has an answer asks for the next one."""

    def __init__(self, load: Load, tokens: tuple[int, int]) -> None:
        self._load = load
        self._lines = cycle(load.lines)
        self._tokens = tokens
        self._lengths = random.Random(1)
        self.size = 0
        load.on_ended = self._on_ended

    async def grow(self, size: int, ramp_s: float) -> None:
        """Ask for more, evenly over that time."""
        begun, more = time.perf_counter(), size - self.size
        for number in range(more):
            await asyncio.sleep(max(0.0, begun + number * ramp_s / more - time.perf_counter()))
            self._load.ask(next(self._lines), self._lengths.randint(*self._tokens))
        self.size = size

    def _on_ended(self, answer: Answer) -> None:
        self._load.ask(answer.line, self._lengths.randint(*self._tokens))


class Line(asyncio.Protocol):
    """One WebSocket. Deltas are noted here and not in a call of their own: they come in tens of thousands a second."""

    def __init__(self, load: Load, url: str) -> None:
        self._load = load
        self._url = urlsplit(url)
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self.open = asyncio.get_running_loop().create_future()
        self.closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        lines = (
            f"GET {self._url.path} HTTP/1.1",
            f"Host: {self._url.netloc}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version: 13",
        )
        self._transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def connection_lost(self, error: Exception | None) -> None:
        if not self.closing:
            self._load.failures.append(f"a connection was lost: {error}")

    def send(self, opcode: int, payload: bytes) -> None:
        assert self._transport is not None
        self._transport.write(client_frame(opcode, payload))

    def close(self) -> None:
        self.closing = True
        assert self._transport is not None
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        if not self.open.done():
            at = self._on_handshake(data)
        while end - at >= 2:
            size, head = data[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
            if at + head + size > end:
                break
            payload = data[at + head : at + head + size]
            if payload.startswith(DELTA):
                self._on_delta(payload, now)
            elif data[at] == TEXT:
                self._load.on_other(payload)
            elif data[at] == PING:
                self.send(PONG, payload)
            at += head + size
        self._rest = data[at:]

    def _on_delta(self, payload: bytes, now: float) -> None:
        load = self._load
        answer = load.by_job[payload[JOB]]
        comma = payload.index(b",", CURSOR_AT)
        cursor = int(payload[CURSOR_AT:comma])
        load.tokens += cursor - (answer.cursors[-1] if answer.cursors else 0)
        load.deltas += 1
        answer.cursors.append(cursor)
        answer.times.append(now)
        answer.texts.append(payload[comma + TEXT_AFTER : -2])

    def _on_handshake(self, data: bytes) -> int:
        head, found, _ = data.partition(b"\r\n\r\n")
        if not found:
            return 0
        assert b" 101 " in head, head
        self.open.set_result(None)
        return len(head) + 4


@asynccontextmanager
async def loaded(url: str, sockets: int, load: Load | None = None) -> AsyncIterator[Load]:
    """A load, a new one if none is given, over so many open sockets for the length of an `async with` block."""
    load, loop = load or Load(), asyncio.get_running_loop()
    host, _, port = urlsplit(url).netloc.partition(":")
    for _ in range(sockets):
        _, line = await loop.create_connection(lambda: Line(load, url), host, int(port))
        load.lines.append(line)
        await asyncio.wait_for(line.open, 10)
    try:
        yield load
    finally:
        for line in load.lines:
            line.close()
