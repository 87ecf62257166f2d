"""`ekiden.Client`: many answers over one connection."""

import logging
import re
import uuid
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from ekiden.client import frames
from ekiden.client.address import endpoint, service
from ekiden.client.answer import Answer
from ekiden.client.exchange import RoundTrip
from ekiden.client.follower import Follower
from ekiden.client.frames import Messages, Sampling
from ekiden.client.link import Link
from ekiden.client.retry import Announcer, Patience, Retry
from ekiden.protocol import DEFAULT_URL, OnDisconnect

if TYPE_CHECKING:
    from ekiden.client.conversations import Conversations

# The standard library's logger: an application that configures nothing finds warnings on its stderr.
log = logging.getLogger(__name__)

LEAST_BUFFER_CHARS = 1_000


class Client:
    """A client of one service, used as `async with Client(…) as client`. One event loop only.

    It connects when the first answer is asked for. A lost connection is opened again, at the next of several URLs, and
    every open answer goes on at its cursor; a request that was not acknowledged is sent again under the same id, which
    makes one job however often it arrives. Closing the client ends its open answers with ClientClosed, not their jobs.

    `url`: http, https, ws or wss, or several of one service. `give_up_after_s`: how long an answer may be without a
    connection, or be refused by a full queue or a store that does not answer, before it ends with Unreachable or that
    refusal; None waits for ever. `buffer_chars`: what an answer may hold unread. `keepalive_s`: how often the
    connection is checked; a server is lost after twice that without a sign of life. `on_retry`: told of each wait
    before the next attempt; must not raise. Without one, each new reason is logged as a warning.
    """

    def __init__(
        self,
        url: str | Sequence[str] = DEFAULT_URL,
        *,
        api_key: str | None = None,
        give_up_after_s: float | None = 60.0,
        buffer_chars: int = 256_000,
        keepalive_s: float = 5.0,
        on_retry: Callable[[Retry], None] | None = None,
    ) -> None:
        urls = [endpoint(each) for each in ([url] if isinstance(url, str) else url)]
        if not urls:
            raise ValueError("A client needs at least one URL.")
        if api_key is not None and not re.fullmatch(r"[A-Za-z0-9_-]+", api_key):
            raise ValueError("A key holds only letters, digits, _ and -.")
        if buffer_chars < LEAST_BUFFER_CHARS:
            raise ValueError(f"buffer_chars must be at least {LEAST_BUFFER_CHARS}.")
        self._urls = urls
        self._api_key = api_key
        self._conversations: Conversations | None = None
        self._give_up_after_s = give_up_after_s
        self._buffer_chars = buffer_chars
        self._link = Link(urls, api_key, keepalive_s, on_retry or Announcer(log.warning))

    async def __aenter__(self) -> Self:
        self._link.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._conversations:
            await self._conversations.close()
        await self._link.close()

    @property
    def conversations(self) -> "Conversations":
        """The conversations that the service keeps for this user. Raises ClientClosed outside of `async with`."""
        self._link.require_open()
        if self._conversations is None:
            from ekiden.client.conversations import Conversations  # its HTTP library is slow to import

            self._conversations = Conversations([service(url) for url in self._urls], self._api_key)
        return self._conversations

    def chat(
        self,
        messages: Messages,
        *,
        conversation: str | None = None,
        model: str | None = None,
        stop: str | Sequence[str] = (),
        priority: int = 0,
        on_disconnect: OnDisconnect = "keep",
        request_id: str | None = None,
        **sampling: Unpack[Sampling],
    ) -> Answer:
        """Ask for an answer to one text or a whole chat; what is left out takes the server's default.

        `conversation`: "new" lets the server keep the chat, under the id that the answer has once it is accepted. With
        such an id, `messages` is one text, the next message. ConversationBusy, raised by the answer, says that another
        answer of it is under way; the client leaves it to the application to ask again.

        The request is sent without waiting for a reader. The same `request_id`, globally unique, and the same request
        are the same job, also from another process. Raises FrameTooLarge, OutOfRange and InvalidRequest for what cannot
        be sent; what the server refuses is raised by the answer.
        """
        identity = _identity(request_id)
        opening = frames.chat(
            identity,
            messages,
            conversation=conversation,
            params=frames.params(stop, sampling),
            model=model,
            priority=priority,
            on_disconnect=on_disconnect,
        )
        return self._ask(identity, opening)

    def regenerate(
        self,
        conversation: str,
        *,
        turn: int | None = None,
        message: str | None = None,
        stop: str | Sequence[str] = (),
        request_id: str | None = None,
        **sampling: Unpack[Sampling],
    ) -> Answer:
        """Ask for another answer to a turn of a kept conversation, by default the last.

        Once it has ended well or was cancelled, it stands in place of that turn and all after it. `turn` counts from 1;
        `message` replaces what the user said there. All else is as with `chat`.
        """
        identity = _identity(request_id)
        params = frames.params(stop, sampling)
        return self._ask(identity, frames.regenerate(identity, conversation, turn=turn, message=message, params=params))

    def attach(self, job: str, cursor: int = 0) -> Answer:
        """Follow a job of the same user from `cursor` on; an earlier answer of this client that did is superseded."""
        return self._follow(Follower(str(uuid.uuid4()), self._patience(), self._buffer_chars, job=job, cursor=cursor))

    async def ping(self) -> float:
        """The seconds that a frame needs to the server and back; waits for a connection like an answer does."""
        return await self._round_trip(self._patience())

    async def connect(self) -> None:
        """Connect now, trying every URL once. Raises Unreachable, Unauthorized or Forbidden."""
        await self._round_trip(Patience(0))

    async def _round_trip(self, patience: Patience) -> float:
        trip = RoundTrip(patience)
        self._link.add(trip)
        try:
            return await trip.seconds
        finally:
            self._link.drop(trip)

    def _ask(self, identity: str, opening: str) -> Answer:
        return self._follow(Follower(identity, self._patience(), self._buffer_chars, opening=opening))

    def _follow(self, follower: Follower) -> Answer:
        self._link.add(follower)
        return Answer(follower, self._link)

    def _patience(self) -> Patience:
        return Patience(self._give_up_after_s)


def _identity(request_id: str | None) -> str:
    return str(uuid.uuid4()) if request_id is None else request_id
