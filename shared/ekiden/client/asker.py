"""Asks the service and shows what it answers, one connection a question. Knows no prompt and no exit status."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ekiden.client.answer import Answer
from ekiden.client.client import Client
from ekiden.client.errors import Unreachable
from ekiden.client.retry import Announcer
from ekiden.client.terminal import Screen
from ekiden.errors import EkidenError, Unauthorized
from ekiden.protocol import DEFAULT_URL, Accepted, Attached, Delta, Done, Moved, Parked, Queued
from ekiden.settings import ClientSettings

CANCEL_TIMEOUT_S = 5.0


@dataclass
class Shown:
    """What came of a question, also when an error ended it.

    `begun`: there is an answer, and a conversation keeps it as far as it came. `whole`: Ctrl-C did not stop it.
    `cut`: it met its length limit. `taken`: somebody else cancelled it.
    """

    texts: list[str] = field(default_factory=list)
    conversation: str | None = None
    begun: bool = False
    whole: bool = True
    cut: bool = False
    taken: bool = False

    @property
    def text(self) -> str:
        """What a person saw of the answer."""
        return "".join(self.texts)

    @property
    def short(self) -> str | None:
        """Why it ended before its end, where the person at the terminal did not end it."""
        if self.taken:
            return "The answer was cancelled by an operator, or by another client of yours."
        return "(cut at the length limit)" if self.cut else None


class Asker:
    """The service of one run of the command. Raises ValueError for a wrong URL or key."""

    def __init__(self, settings: ClientSettings, screen: Screen) -> None:
        self._settings = settings
        self._screen = screen
        self._announcer = Announcer(screen.notice)
        self.client()

    def client(self) -> Client:
        """A client that tells what it waits for."""
        key = self._settings.api_key
        return Client(self._settings.url, api_key=key.get_secret_value() if key else None, on_retry=self._announcer)

    async def answer(self, ask: Callable[[Client], Answer], shown: Shown) -> None:
        """Show one answer, and note in `shown` what came. Ctrl-C and a closed pipe cancel the job."""
        async with self.client() as client:
            await client.connect()
            answer = ask(client)
            try:
                await self._show(answer, shown)
            except BrokenPipeError:
                await self._cancel(answer)
                raise
            except asyncio.CancelledError:
                _forget_interrupt()
                shown.whole = False
                if await self._cancel(answer):
                    await self._show(answer, shown)
            finally:
                shown.conversation = answer.conversation
        self._screen.end_line()

    async def follow(self, job: str, shown: Shown) -> None:
        """Show a job that others may wait for too, and note in `shown` what came: leaving does not end it."""
        async with self.client() as client:
            await client.connect()
            await self._show(client.attach(job), shown)
        self._screen.end_line()

    def command(self, option: str, value: str) -> str:
        """What to type for one more run of the command on the same service."""
        url = self._settings.url
        return f"ekiden chat {f'--url {url} ' if url != DEFAULT_URL else ''}{option} {value}"

    def how_to_go_on(self, conversation: str) -> str:
        """What to tell a person who leaves a conversation."""
        return f"To go on: {self.command('--conversation', conversation)}"

    def sentence(self, error: EkidenError) -> str:
        """What to tell a person about an error: what happened, and what to do where that is known."""
        if isinstance(error, Unreachable):
            if error.job is not None:
                return f"{error} The answer goes on: {self.command('--job', error.job)}"
            return f"{error} Is `ekiden up` running? Another address is given with --url or EKIDEN_URL."
        if isinstance(error, Unauthorized):
            return f"{error} It is given with EKIDEN_API_KEY or --api-key."
        return str(error)

    async def _show(self, answer: Answer, shown: Shown) -> None:
        async for event in answer.events():
            if isinstance(event, Delta):
                shown.texts.append(event.text)
                shown.begun = True
                self._screen.text(event.text)
            elif isinstance(event, Accepted | Queued) and event.position:
                self._screen.notice(f"Waiting; jobs ahead: {event.position}.")
            elif isinstance(event, Moved):
                self._screen.notice("A worker goes on with the answer.")
            elif isinstance(event, Parked):
                self._screen.notice("The answer is held; it goes on when a program resumes it.")
            elif isinstance(event, Attached):
                self._announcer.recovered()
            elif isinstance(event, Done):
                shown.cut = event.finish_reason == "length"
                # The frame does not tell who cancelled it; that it was not this program is known here alone.
                shown.taken = event.finish_reason == "cancelled" and shown.whole
                # What was cancelled before its first token is not kept.
                shown.begun = event.finish_reason != "cancelled" or event.usage.completion_tokens > 0

    async def _cancel(self, answer: Answer) -> bool:
        """End the job; False when the service did not confirm it in time."""
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await answer.cancel()
        except TimeoutError:
            self._screen.notice("The service did not confirm the end of the answer.")
            return False
        return True


def _forget_interrupt() -> None:
    """Ctrl-C cancelled this task; it goes on, so that what it awaits next is not taken for cancelled."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()
