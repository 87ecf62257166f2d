"""The client's one connection: opened when it is needed, opened again when it is lost, shared by all exchanges."""

import asyncio
import logging
import os
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from ekiden.client.errors import ClientClosed, Superseded, Unreachable, error_in, error_of
from ekiden.client.exchange import Exchange
from ekiden.client.retry import Backoff, Retry
from ekiden.errors import (
    EkidenError,
    Forbidden,
    QueueFull,
    StoreUnavailable,
    TooManyJobs,
    Unauthorized,
)
from ekiden.protocol import SUBPROTOCOL, Accepted, Attached, Error, decode_server

# The standard library's logger: an application that configures nothing must find nothing of this on its stdout.
log = logging.getLogger(__name__)

OPEN_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
REFUSED_AGAIN_S = 1.0

# Refusals that changed nothing and pass by themselves. Others that may be retried are the application's to decide: a
# lost job needs another request, and what keeps a conversation busy is an answer that somebody else asked for (a chat
# that was not acknowledged is never in its own way, as its id is known).
PASSING = frozenset(kind.code for kind in (QueueFull, TooManyJobs, StoreUnavailable))

FINAL_STATUS: dict[int, type[EkidenError]] = {401: Unauthorized, 403: Forbidden}
PASSING_STATUS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


class Link:
    """Carries exchanges over one connection at a time. Event loop only; one task from `start` to `close`.

    An exchange ends with Unreachable when every URL failed and its patience is spent; Unauthorized, Forbidden and other
    statuses that will not change end all exchanges at once. With none left it stays idle until the next one.
    """

    def __init__(
        self, urls: Sequence[str], api_key: str | None, keepalive_s: float, on_retry: Callable[[Retry], None]
    ) -> None:
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._keepalive_s = keepalive_s
        self._on_retry = on_retry
        self._open: dict[str, Exchange] = {}
        self._by_job: dict[str, Exchange] = {}
        self._asking: deque[Exchange] = deque()
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._turn = 0  # the URL in use is this one, modulo their number
        self._failures = 0  # in a row, without a frame from a server between
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take exchanges from now on."""
        assert self._task is None
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the open exchanges with ClientClosed, and the connection."""
        task, self._task = self._task, None
        assert task is not None
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (failure := task.exception()):
            raise failure

    def add(self, exchange: Exchange) -> None:
        """Carry an exchange until it is over or dropped.

        Raises ClientClosed before `start` and after `close`, ValueError when the id is in use.
        """
        self.require_open()
        if exchange.id in self._open:
            raise ValueError("This client has an open answer with the same request id.")
        self._open[exchange.id] = exchange
        self.ask(exchange)

    def require_open(self) -> None:
        """Raise ClientClosed before `start` and after `close`."""
        if self._task is None or self._task.done():
            raise ClientClosed("The client is closed: use it inside `async with Client(…) as client`.")

    def ask(self, exchange: Exchange) -> None:
        """Send what an exchange has to send, on this connection or the next."""
        if exchange.id in self._open:
            self._asking.append(exchange)
            self._wake.set()

    def drop(self, exchange: Exchange) -> None:
        """Carry it no more."""
        self._open.pop(exchange.id, None)
        if exchange.job is not None and self._by_job.get(exchange.job) is exchange:
            del self._by_job[exchange.job]

    async def _run(self) -> None:
        try:
            while True:
                while not self._open:
                    self._wake.clear()
                    await self._wake.wait()
                if connection := await self._connect():
                    await self._serve(connection)
        finally:
            self._fail_all(ClientClosed, "The client was closed.")

    async def _connect(self) -> ClientConnection | None:
        """An open connection, or None when no exchange waits for one any more."""
        while self._open:
            for exchange in self._open.values():
                exchange.patience.begin()
            url = self._urls[self._turn % len(self._urls)]
            try:
                return await connect(
                    url,
                    additional_headers=self._headers,
                    subprotocols=[Subprotocol(SUBPROTOCOL)],
                    compression=None,
                    open_timeout=OPEN_TIMEOUT_S,
                    close_timeout=CLOSE_TIMEOUT_S,
                    ping_interval=self._keepalive_s,
                    ping_timeout=self._keepalive_s,
                    max_size=None,  # a delta holds all that is new since the cursor
                )
            except InvalidStatus as error:
                await self._on_status(url, error)
            except (OSError, WebSocketException) as error:
                await self._failed(f"{url} cannot be reached ({_reason(error)}).")
        return None

    async def _serve(self, connection: ClientConnection) -> None:
        """Use a connection until it is lost."""
        self._asking = deque(self._open.values())
        self._wake.set()
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(self._write(connection))
                await self._read(connection)
                writer.cancel()
        finally:
            await connection.close()
        for exchange in self._open.values():
            exchange.restart()
        if self._open:
            await self._failed("The connection was lost.")

    async def _write(self, connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._asking:
                    frame = self._asking.popleft().next_frame()
                    if frame is not None:
                        await connection.send(frame)

    async def _read(self, connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            async for data in connection:
                self._failures = 0
                self._backoff.reset()
                self._on_data(data)

    def _on_data(self, data: str | bytes) -> None:
        try:
            frame = decode_server(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.debug("a frame that this version does not know was ignored")
            return
        job = getattr(frame, "job", None)
        if isinstance(frame, Accepted | Attached) or job is None:
            exchange = self._open.get(getattr(frame, "id", None) or "")
        else:
            exchange = self._by_job.get(job)
        if exchange is None:
            return  # it is over, or was given up
        if isinstance(frame, Error) and job is None:
            self._refused(exchange, frame)
            return
        if isinstance(frame, Accepted | Attached):
            self._bind(frame.job, exchange)
        exchange.on_frame(frame)
        if exchange.over:
            self.drop(exchange)
        elif isinstance(frame, Accepted | Attached):
            self.ask(exchange)  # a cancel may have waited for the job's name

    def _bind(self, job: str, exchange: Exchange) -> None:
        """Frames of a job go to the exchange that followed it last, as on the server."""
        earlier = self._by_job.get(job)
        if earlier is not None and earlier is not exchange:
            self._fail(earlier, Superseded("A later answer of this client follows the job.", job=job))
        self._by_job[job] = exchange

    def _refused(self, exchange: Exchange, frame: Error) -> None:
        """Ask again later, when that can help; it is the frame that failed, not the job."""
        wait_s = REFUSED_AGAIN_S if frame.retry_after_s is None else frame.retry_after_s
        delay_s = wait_s * random.uniform(1.0, 1.25)
        if frame.code not in PASSING or exchange.patience.spent(delay_s):
            self._fail(exchange, error_of(frame))
            return
        exchange.restart()
        self._on_retry(Retry(frame.message, delay_s))
        asyncio.get_running_loop().call_later(delay_s, self.ask, exchange)

    async def _on_status(self, url: str, error: InvalidStatus) -> None:
        """The server answered the handshake with an HTTP status."""
        status = error.response.status_code
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in PASSING_STATUS:
            await self._failed(f"{url} answered HTTP {status}.")
        else:
            kind = FINAL_STATUS.get(status, Unreachable)
            refusal = error_in(bytes(error.response.body or b""))
            self._fail_all(kind, str(refusal or f"{url} answered HTTP {status}; it may be another service."))

    async def _failed(self, reason: str) -> None:
        """Give up the exchanges whose patience is spent; wait before the next URL is tried for the others."""
        self._turn += 1
        self._failures += 1
        delay_s = self._backoff.next_s()
        if self._failures >= len(self._urls):
            for exchange in [each for each in self._open.values() if each.patience.spent(delay_s)]:
                self._fail(exchange, Unreachable(reason, job=exchange.job))
        if self._open:
            self._on_retry(Retry(reason, delay_s))
            await asyncio.sleep(delay_s)

    def _fail(self, exchange: Exchange, error: EkidenError) -> None:
        self.drop(exchange)
        exchange.fail(error)

    def _fail_all(self, kind: type[EkidenError], message: str) -> None:
        for exchange in list(self._open.values()):
            self._fail(exchange, kind(message, job=exchange.job))


def _reason(error: Exception) -> str:
    """A few words a person can act on; asyncio's own list addresses."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, OSError):
        return error.strerror or "connection failed"
    return str(error)
