"""A chat from the command line: one question, one job to follow, or a conversation. Returns exit statuses."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ekiden.client.answer import Answer
from ekiden.client.client import Client, Sampling
from ekiden.client.errors import Unreachable
from ekiden.client.retry import Retry
from ekiden.client.terminal import Prompt, Screen
from ekiden.errors import EkidenError
from ekiden.exit_codes import CONFIG
from ekiden.protocol import Accepted, Attached, Delta, Message, Moved, Queued
from ekiden.settings import ClientSettings, SettingsError, load_client_settings

FAILED = 1
USAGE = 2
INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE

CANCEL_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Question:
    """What the command line asks for; neither `message` nor `job`: stdin, or a conversation at a terminal."""

    message: str | None
    job: str | None
    system: str | None
    model: str | None
    sampling: Sampling


def talk(question: Question, url: str | None = None, api_key: str | None = None) -> int:
    """Run `ekiden chat`; `url` and `api_key` come before the environment's. Main thread only: it handles Ctrl-C."""
    screen = Screen(sys.stdout, sys.stderr)
    given = {"url": url, "api_key": api_key}
    try:
        settings = load_client_settings(**{name: value for name, value in given.items() if value is not None})
        session = _Talk(question, settings, screen)
    except (SettingsError, ValueError) as error:
        screen.notice(str(error))
        return CONFIG
    try:
        return session.run()
    except EkidenError as error:
        screen.notice(_sentence(error))
        return FAILED
    except KeyboardInterrupt:
        screen.end_line()
        return INTERRUPTED
    except BrokenPipeError:
        screen.discard()
        return PIPE_CLOSED


class _Talk:
    """One run of the command."""

    def __init__(self, question: Question, settings: ClientSettings, screen: Screen) -> None:
        self._question = question
        self._settings = settings
        self._screen = screen
        self._told = ""
        self._client()  # a wrong URL or key is refused before anything is read

    def run(self) -> int:
        question = self._question
        if question.job is not None:
            asyncio.run(self._follow(question.job))
            return 0
        message = question.message
        if message is None:
            if sys.stdin.isatty():
                return self._converse()
            message = _read_all()
            if not message:
                self._screen.notice("There is nothing to ask: give a message, or text on stdin.")
                return USAGE
        _, whole = asyncio.run(self._answer([*self._history(), Message("user", message)]))
        return 0 if whole else INTERRUPTED

    def _converse(self) -> int:
        """Answer line after line, with all before as history, until the person ends it."""
        asyncio.run(self._check())
        self._screen.notice("Ctrl-C stops an answer; Ctrl-D ends the conversation.")
        history = self._history()
        prompt = Prompt("> ")
        while True:
            try:
                line = prompt.read()
            except (EOFError, KeyboardInterrupt):
                self._screen.notice("")
                return 0
            except UnicodeDecodeError:
                self._screen.notice("That line is no valid text.")
                continue
            if line.strip():
                history = self._turn(history, line)

    def _turn(self, history: list[Message], line: str) -> list[Message]:
        """The history after one more answer; an error leaves it as it was, and the conversation goes on."""
        messages = [*history, Message("user", line)]
        try:
            text, whole = asyncio.run(self._answer(messages))
        except EkidenError as error:
            self._screen.notice(_sentence(error))
            return history
        except KeyboardInterrupt:  # before there was an answer to cancel, or again while it was cancelled
            self._screen.end_line()
            return history
        if not whole:
            self._screen.notice("(stopped)")
        return [*messages, Message("assistant", text)]

    async def _check(self) -> None:
        async with self._client() as client:
            await client.connect()

    async def _follow(self, job: str) -> None:
        """Show a job that others may wait for too: leaving does not end it."""
        async with self._client() as client:
            await client.connect()
            await self._show(client.attach(job), [])
        self._screen.end_line()

    async def _answer(self, messages: Sequence[Message]) -> tuple[str, bool]:
        """Show one answer; its text, and whether it came to its own end. Ctrl-C and a closed pipe cancel the job."""
        question, shown = self._question, list[str]()
        async with self._client() as client:
            await client.connect()
            answer = client.chat(messages, model=question.model, **question.sampling)
            whole = True
            try:
                await self._show(answer, shown)
            except BrokenPipeError:
                await self._cancel(answer)
                raise
            except asyncio.CancelledError:
                _forget_interrupt()
                whole = False
                if await self._cancel(answer):
                    await self._show(answer, shown)
        self._screen.end_line()
        return "".join(shown), whole

    async def _show(self, answer: Answer, shown: list[str]) -> None:
        async for event in answer.events():
            if isinstance(event, Delta):
                shown.append(event.text)
                self._screen.text(event.text)
            elif isinstance(event, Accepted | Queued) and event.position:
                self._screen.notice(f"Waiting; jobs ahead: {event.position}.")
            elif isinstance(event, Moved):
                self._screen.notice("Another worker goes on with the answer.")
            elif isinstance(event, Attached):
                self._told = ""

    async def _cancel(self, answer: Answer) -> bool:
        """End the job; False when the service did not confirm it in time."""
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await answer.cancel()
        except TimeoutError:
            self._screen.notice("The service did not confirm the end of the answer.")
            return False
        return True

    def _client(self) -> Client:
        key = self._settings.api_key
        return Client(self._settings.url, api_key=key.get_secret_value() if key else None, on_retry=self._tell_retry)

    def _tell_retry(self, retry: Retry) -> None:
        if retry.reason != self._told:
            self._told = retry.reason
            self._screen.notice(f"{retry.reason} Trying again.")

    def _history(self) -> list[Message]:
        system = self._question.system
        return [] if system is None else [Message("system", system)]


def _read_all() -> str:
    """The question on stdin; empty when it is no text."""
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError:
        return ""


def _forget_interrupt() -> None:
    """Ctrl-C cancelled this task; it goes on, so that what it awaits next is not taken for cancelled."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


def _sentence(error: EkidenError) -> str:
    if isinstance(error, Unreachable):
        if error.job is not None:
            return f"{error} The answer goes on: ekiden chat --job {error.job}"
        return f"{error} Is `ekiden up` running? Another address is given with --url or EKIDEN_URL."
    return str(error)
