"""One answer, as the application reads it."""

from collections.abc import AsyncIterator
from typing import Self

from ekiden.client.follower import Event, Follower
from ekiden.client.link import Link
from ekiden.protocol import Delta, Done, FinishReason, Park, Resume, Timings, Usage

__all__ = ["Answer", "Event"]


class Answer:
    """An answer on its way: iterate over it for its text, or over `events()` for the contract's frames.

    Every piece of text comes once, in order, over any number of lost connections. There is one reading position:
    iterators share it, and stopping early ends neither the answer nor its job. A job that nobody follows after the
    client was closed ends by its `on_disconnect` rule; `cancel` ends it now.

    A reader may be slow: beyond the client's `buffer_chars` text stays on the server, which keeps it until some minutes
    after the job's end. Whoever comes later than that gets the error `expired`.

    Iterating raises an EkidenError whose `code`, `job` and `retryable` tell what went wrong, after all text before it.
    """

    def __init__(self, follower: Follower, link: Link) -> None:
        self._follower = follower
        self._link = link
        self._cursor = follower.cursor

    @property
    def id(self) -> str:
        """The request's id."""
        return self._follower.id

    @property
    def job(self) -> str | None:
        """The job's id; None until it is accepted."""
        return self._follower.job

    @property
    def conversation(self) -> str | None:
        """The kept conversation that it is a turn of; None until the job is accepted, and for an answer of its own."""
        return self._follower.conversation

    @property
    def cursor(self) -> int:
        """Where reading stands: `Client.attach(answer.job, answer.cursor)` goes on from here, in any process."""
        return self._cursor

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the job ended well; None until it has."""
        return self._done.finish_reason if self._done else None

    @property
    def usage(self) -> Usage | None:
        """Token counts; None until the job has ended well."""
        return self._done.usage if self._done else None

    @property
    def timings(self) -> Timings | None:
        """Times measured by the service; None until the job has ended well."""
        return self._done.timings if self._done else None

    @property
    def _done(self) -> Done | None:
        terminal = self._follower.terminal
        return terminal if isinstance(terminal, Done) else None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while (event := await self._next()) is not None:
            if isinstance(event, Delta):
                return event.text
        raise StopAsyncIteration

    async def text(self) -> str:
        """The rest of the text, once the answer has ended."""
        return "".join([text async for text in self])

    async def events(self) -> AsyncIterator[Event]:
        """The frames from here on; `done` is the last.

        A connection that was lost shows as another `attached`: its state and attempt stand for a `started` or `moved`
        that was missed.
        """
        while (event := await self._next()) is not None:
            yield event

    async def cancel(self) -> None:
        """End the job now and wait until it has ended; what was generated before stays readable.

        Raises the error that ended the answer when it is not known whether the job has ended.
        """
        follower = self._follower
        follower.cancel()
        self._link.ask(follower)
        await follower.finished.wait()
        if follower.terminal is None and follower.error is not None:
            raise follower.error

    async def park(self) -> None:
        """Have the job held at its next token, and wait until it is, or has ended before.

        It keeps its text and its conversation, and no worker. Raises the error that ended the answer when it is not
        known whether the job is held.
        """
        follower = self._follower
        follower.order(Park)
        self._link.ask(follower)
        await follower.settled.wait()
        if follower.terminal is None and follower.error is not None:
            raise follower.error

    def resume(self) -> None:
        """Have a held job go on; returns at once, and `events()` tell the rest."""
        self._follower.order(Resume)
        self._link.ask(self._follower)

    async def _next(self) -> Event | None:
        follower = self._follower
        while True:
            follower.changed.clear()
            if (event := follower.take()) is not None:
                if isinstance(event, Delta | Done):
                    self._cursor = event.cursor
                return event
            if follower.error is not None:
                raise follower.error
            if follower.complete:
                return None
            if follower.paused:
                self._link.drop(follower)
                follower.resume()
                self._link.add(follower)
            await follower.changed.wait()
