"""`ekiden.Client`: many answers over one connection."""

import math
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypedDict, Unpack

from ekiden.client.address import endpoint
from ekiden.client.answer import Answer
from ekiden.client.exchange import RoundTrip
from ekiden.client.follower import Follower
from ekiden.client.link import Link
from ekiden.client.retry import Patience, Retry, RetryLog
from ekiden.errors import FrameTooLarge, InvalidRequest, OutOfRange
from ekiden.protocol import DEFAULT_URL, Chat, Message, OnDisconnect, Params, encode
from ekiden.validation import MAX_FRAME_BYTES

LEAST_BUFFER_CHARS = 1_000

Messages = str | Sequence[Message | Mapping[str, str]]


class Sampling(TypedDict, total=False):
    """How to generate: the numbers of `protocol.Params`."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None


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
        self._give_up_after_s = give_up_after_s
        self._buffer_chars = buffer_chars
        self._link = Link(urls, api_key, keepalive_s, on_retry or RetryLog())

    async def __aenter__(self) -> Self:
        self._link.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        await self._link.close()

    def chat(
        self,
        messages: Messages,
        *,
        model: str | None = None,
        stop: str | Sequence[str] = (),
        priority: int = 0,
        on_disconnect: OnDisconnect = "keep",
        request_id: str | None = None,
        **sampling: Unpack[Sampling],
    ) -> Answer:
        """Ask for an answer to one text or a whole conversation; what is left out takes the server's default.

        The request is sent without waiting for a reader. The same `request_id`, globally unique, and the same request
        are the same job, also from another process. Raises FrameTooLarge, OutOfRange and InvalidRequest for what cannot
        be sent; what the server refuses is raised by the answer.
        """
        identity = str(uuid.uuid4()) if request_id is None else request_id
        chat = Chat(
            id=identity,
            messages=_messages(messages),
            params=_params(stop, sampling),
            model=model,
            priority=priority,
            on_disconnect=on_disconnect,
        )
        return self._follow(Follower(identity, self._patience(), self._buffer_chars, opening=_encode(chat)))

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

    def _follow(self, follower: Follower) -> Answer:
        self._link.add(follower)
        return Answer(follower, self._link)

    def _patience(self) -> Patience:
        return Patience(self._give_up_after_s)


def _messages(given: Messages) -> list[Message]:
    if isinstance(given, str):
        return [Message("user", given)]
    return [each if isinstance(each, Message) else Message(**each) for each in given]


def _params(stop: str | Sequence[str], sampling: Sampling) -> Params:
    for name, value in sampling.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise OutOfRange(f"params.{name} must be a finite number.")  # JSON would make it null, the default
    return Params(stop=[stop] if isinstance(stop, str) else list(stop) or None, **sampling)


def _encode(chat: Chat) -> str:
    """The frame, if the server could read it."""
    try:
        frame = encode(chat)
    except UnicodeEncodeError:
        raise InvalidRequest("The messages are not valid Unicode text.") from None
    if len(frame) > MAX_FRAME_BYTES or len(frame.encode()) > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"A frame may have at most {MAX_FRAME_BYTES:,} bytes.")
    return frame
