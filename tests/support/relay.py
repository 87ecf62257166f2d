"""A TCP relay before a server, for tests that cut, mute, refuse, slow or swallow connections at a chosen moment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Relay:
    """Passes bytes both ways until told otherwise. Event loop only."""

    def __init__(self, port: int) -> None:
        self.url = ""
        self.port = 0
        """Where the relay listens."""
        self.connections = 0
        self.delay_s = 0.0
        """How long each piece is under way, in either direction."""
        self.turned_away = asyncio.Event()
        self._port = port
        self._refusing = False
        self._passing = asyncio.Event()
        self._passing.set()
        self._muted: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Reset every connection."""
        for client in self._clients:
            client.transport.abort()

    def mute(self) -> None:
        """Lose what the server says on the connections of now; it hears on."""
        self._muted |= self._clients

    def refuse(self) -> None:
        """Reset new connections from now on."""
        self._refusing = True

    def accept(self) -> None:
        """Pass new connections from now on."""
        self._refusing = False

    def swallow(self) -> None:
        """Pass nothing from now on, in either direction; connections stay, as over a network that is gone."""
        self._passing.clear()

    def release(self) -> None:
        """Pass what was swallowed, and all that follows."""
        self._passing.set()

    async def handle(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Serve one connection; its end, also before it began, is the caller's to reset."""
        if self._refusing:
            self.turned_away.set()
            return
        self.connections += 1
        self._clients.add(client)
        try:
            await self._pass(reader, client)
        except* ConnectionError:  # also where no server listens
            pass
        finally:
            self._clients.discard(client)

    async def _pass(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        from_server, server = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            async with asyncio.TaskGroup() as tasks:
                down = tasks.create_task(self._pump(from_server, client))
                with suppress(ConnectionError):
                    await self._pump(reader, server)
                down.cancel()
        finally:
            server.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._passing.wait()
            if sink not in self._muted:
                sink.write(data)
                await sink.drain()
        sink.transport.abort()


@asynccontextmanager
async def relay_to(port: int) -> AsyncIterator[Relay]:
    """A relay to a port of loopback for the length of an `async with` block."""
    relay = Relay(port)
    handlers: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(relay.handle(reader, writer))
        handlers.add(task)
        task.add_done_callback(lambda _: writer.transport.abort())
        task.add_done_callback(handlers.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    relay.url = f"http://127.0.0.1:{relay.port}"
    try:
        yield relay
    finally:
        server.close()
        for task in tuple(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
