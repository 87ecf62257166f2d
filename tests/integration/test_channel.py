"""The short way to a client's socket: whole text frames, and a client that is slow or gone is not ready."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from ekiden_api.websocket import CHANNEL, MAX_CONTROL_FRAMES, MAX_PARTS, Protocol
from tests.support.waiting import until_async

FRAME = b"x" * 65536
MOST_FRAMES = 1000  # far beyond what sockets hold between two processes


class Served:
    """An application that accepts one client and hands its channel to the test."""

    def __init__(self) -> None:
        self.channel: asyncio.Future[Protocol] = asyncio.get_running_loop().create_future()
        self.left = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.channel.set_result(scope["extensions"][CHANNEL])
        while (await receive())["type"] != "websocket.disconnect":
            pass
        self.left.set()


@asynccontextmanager
async def serving(app: ASGIApp, ping_s: float = 20.0) -> AsyncIterator[str]:
    """A real server for the length of an `async with` block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app,
            ws=Protocol,
            lifespan="off",
            log_config=None,
            ws_per_message_deflate=False,
            ws_ping_interval=ping_s,
            ws_ping_timeout=ping_s,
        )
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def _written() -> None:
    served = Served()
    async with serving(served) as url:
        async with connect(url) as client:
            channel = await served.channel
            assert channel.ready
            channel.write([b"one", "zwei \u00e9".encode(), b"3" * 70_000])
            frames = [await asyncio.wait_for(client.recv(), 5) for _ in range(3)]
            assert frames == ["one", "zwei \u00e9", "3" * 70_000]
        await until_async(lambda: _is(not channel.ready), what="a channel without its client")


async def _slow() -> None:
    served = Served()
    async with serving(served) as url, connect(url, max_queue=1) as client:
        channel, count = await served.channel, 0
        while channel.ready and count < MOST_FRAMES:
            channel.write([FRAME])
            count += 1
            await asyncio.sleep(0)
        assert count < MOST_FRAMES
        for _ in range(count):
            assert await asyncio.wait_for(client.recv(), 5) == FRAME.decode()
        await until_async(lambda: _is(channel.ready), what="a channel that is ready again")


def _pings(client: ClientConnection) -> None:
    for _ in range(MAX_CONTROL_FRAMES + 1):
        client.protocol.send_ping(b"")


def _parts(client: ClientConnection) -> None:
    client.protocol.send_text(b"", fin=False)
    for _ in range(MAX_PARTS + 1):
        client.protocol.send_continuation(b"", fin=False)


async def _flood(flood: Callable[[ClientConnection], None]) -> None:
    served = Served()
    async with serving(served) as url, connect(url) as client:
        await served.channel
        flood(client)
        client.transport.write(b"".join(client.protocol.data_to_send()))
        with pytest.raises(ConnectionClosedError):
            await asyncio.wait_for(client.recv(), 10)
        await asyncio.wait_for(served.left.wait(), 10)


async def _mute() -> None:
    served = Served()
    async with serving(served, ping_s=0.3) as url, connect(url, ping_interval=None, close_timeout=0.1) as client:
        channel, count = await served.channel, 0
        client.transport.pause_reading()
        while channel.ready and count < MOST_FRAMES:
            channel.write([FRAME])
            count += 1
        await asyncio.wait_for(served.left.wait(), 10)


async def _is(value: bool) -> bool:
    return value


def test_frames_are_whole_and_in_order_and_a_client_that_left_is_not_ready() -> None:
    asyncio.run(_written())


def test_a_client_that_does_not_read_is_not_ready_until_it_does() -> None:
    asyncio.run(_slow())


@pytest.mark.parametrize("flood", [_pings, _parts])
def test_a_flood_that_does_not_pause_reading_ends_its_connection(flood: Callable[[ClientConnection], None]) -> None:
    asyncio.run(_flood(flood))


def test_a_client_that_never_reads_is_gone_after_its_pings() -> None:
    asyncio.run(_mute())
