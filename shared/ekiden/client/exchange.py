"""What the link carries: things that need the connection until the server has answered them."""

import asyncio
import time
import uuid
from typing import Protocol

from ekiden.client.retry import Patience
from ekiden.errors import EkidenError
from ekiden.protocol import AnyServerFrame, Ping, Pong, encode


class Exchange(Protocol):
    """A question and all that comes back. It does no I/O: the link sends what it asks and hands in what arrives."""

    id: str
    job: str | None
    patience: Patience
    over: bool
    """Nothing more is expected from the server."""

    def next_frame(self) -> str | None:
        """The text frame to send now, if any; it then counts as sent."""

    def on_frame(self, frame: AnyServerFrame) -> None:
        """A frame that is addressed to it by `id` or `job`, and no refusal."""

    def restart(self) -> None:
        """What was sent is void: the connection was lost, or the server refused for now."""

    def fail(self, error: EkidenError) -> None:
        """End with an error."""


class RoundTrip:
    """A ping until its pong. Make it on the event loop."""

    def __init__(self, patience: Patience) -> None:
        self.id = str(uuid.uuid4())
        self.job: str | None = None
        self.patience = patience
        self.over = False
        self.seconds: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._sent_at: float | None = None

    def next_frame(self) -> str | None:
        if self.over or self._sent_at is not None:
            return None
        self._sent_at = time.monotonic()
        return encode(Ping(id=self.id))

    def on_frame(self, frame: AnyServerFrame) -> None:
        if isinstance(frame, Pong) and self._sent_at is not None:
            self.over = True
            if not self.seconds.done():
                self.seconds.set_result(time.monotonic() - self._sent_at)

    def restart(self) -> None:
        self._sent_at = None

    def fail(self, error: EkidenError) -> None:
        self.over = True
        if not self.seconds.done():
            self.seconds.set_exception(error)
