"""The short way to a client's socket: whole text frames, and a client that is slow or gone is not ready."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import connect

from ekiden_api.websocket import CHANNEL, Protocol
from tests.support.waiting import until_async

FRAME = b"x" * 65536
MOST_FRAMES = 1000  # far beyond what sockets hold between two processes


class Served:
    """An application that accepts one client and hands its channel to the test."""

    def __init__(self) -> None:
        self.channel: asyncio.Future[Protocol] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        self.channel.set_result(scope["extensions"][CHANNEL])
        await receive()  # the disconnect


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[str]:
    """A real server for the length of an `async with` block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, ws=Protocol, lifespan="off", log_config=None, ws_per_message_deflate=False)
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


async def _is(value: bool) -> bool:
    return value


def test_frames_are_whole_and_in_order_and_a_client_that_left_is_not_ready() -> None:
    asyncio.run(_written())


def test_a_client_that_does_not_read_is_not_ready_until_it_does() -> None:
    asyncio.run(_slow())
