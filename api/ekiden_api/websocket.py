"""uvicorn's WebSocket protocol, with the habits of a service that strangers may reach, and a short way to a socket."""

import logging
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

# What a client that does not read may leave unsent before it is dropped; the outbox's own bound comes long before.
MAX_UNSENT_BYTES = 4 << 20

# Pings and pongs in one read from the socket. No client needs more, and a flood of them, which does not pause reading
# as messages do, would keep all other connections of the process waiting.
MAX_CONTROL_FRAMES = 100

# Parts of one message; empty ones would never come to the limit of its bytes.
MAX_PARTS = 10_000

# Where a connection's scope has its `outbox.Channel`.
CHANNEL = "ekiden.channel"


class Protocol(WebSocketsSansIOProtocol):
    """Drops clients that take too much or do not leave: see the limits above, and `keepalive_timeout`.

    It is an `outbox.Channel` too: many frames in one write, without a coroutine for each.
    """

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            extensions = cast(dict[str, object], self.scope["extensions"])
            extensions[CHANNEL] = self

    @property
    def ready(self) -> bool:
        """The client is there, and takes what is written."""
        return self.conn.state is State.OPEN and self.writable.is_set() and not self.transport.is_closing()

    def write(self, frames: list[bytes]) -> None:
        """Write text frames; only while it is ready."""
        for frame in frames:
            self.conn.send_text(frame)
        self.transport.write(b"".join(self.conn.data_to_send()))

    def data_received(self, data: bytes) -> None:
        self._control_frames = 0
        super().data_received(data)

    def handle_ping(self) -> None:
        self._count_control_frame()
        if self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:  # uvicorn puts every pong there
            self.transport.abort()
        else:
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        self._count_control_frame()
        super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < MAX_PARTS:
            super().handle_cont(event)
        else:
            self.transport.abort()

    def send_keepalive_ping(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()  # closing waits for the client to read, and this one does not
        else:
            super().send_keepalive_ping()

    def keepalive_timeout(self) -> None:
        """The client is gone: end the connection now. uvicorn would wait until it had read what is left for it."""
        super().keepalive_timeout()
        self.transport.abort()

    def _count_control_frame(self) -> None:
        self._control_frames += 1
        if self._control_frames > MAX_CONTROL_FRAMES:
            self.transport.abort()


class RefusalsAreNoErrors(logging.Filter):
    """uvicorn calls a handshake that was answered with an HTTP status an error of the application."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing handshake" not in record.getMessage()
