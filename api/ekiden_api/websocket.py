"""uvicorn's WebSocket protocol, with the habits of a service that strangers may reach, and a short way to a socket."""

import logging
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State

# What a client that does not read may leave unsent before it is dropped; the outbox's own bound comes long before.
MAX_UNSENT_BYTES = 4 << 20


# Where a connection's scope has its `outbox.Channel`.
CHANNEL = "ekiden.channel"


class Protocol(WebSocketsSansIOProtocol):
    """Drops a client that pings and does not read: uvicorn would put every pong into an unbounded buffer.

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

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.transport.abort()
        else:
            super().handle_ping()


class RefusalsAreNoErrors(logging.Filter):
    """uvicorn calls a handshake that was answered with an HTTP status an error of the application."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing handshake" not in record.getMessage()
