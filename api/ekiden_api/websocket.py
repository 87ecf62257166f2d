"""uvicorn's WebSocket protocol, with the two habits of a service that strangers may reach."""

import logging

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

# What a client that does not read may leave unsent before it is dropped; the outbox's own bound comes long before.
MAX_UNSENT_BYTES = 4 << 20


class Protocol(WebSocketsSansIOProtocol):
    """Drops a client that pings and does not read: uvicorn would put every pong into an unbounded buffer."""

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.transport.abort()
        else:
            super().handle_ping()


class RefusalsAreNoErrors(logging.Filter):
    """uvicorn calls a handshake that was answered with an HTTP status an error of the application."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing handshake" not in record.getMessage()
