"""A chat from the command line: one question, one job to follow, or a conversation. Returns exit statuses."""

import asyncio
import sys
from dataclasses import dataclass

from ekiden.client.asker import Asker, Shown
from ekiden.client.frames import Messages, Sampling
from ekiden.client.interactive import Interactive
from ekiden.client.terminal import Screen
from ekiden.errors import EkidenError
from ekiden.exit_codes import CONFIG, FAILED, INTERRUPTED, PIPE_CLOSED, USAGE
from ekiden.protocol import Message
from ekiden.settings import SettingsError, load_client_settings
from ekiden.validation import NEW_CONVERSATION


@dataclass(frozen=True)
class Question:
    """What the command line asks for; neither `message` nor `job`: stdin, or a conversation at a terminal.

    `conversation`: the id of a kept one, "new" for one to be kept, None for whatever is usual.
    """

    message: str | None
    job: str | None
    conversation: str | None
    system: str | None
    model: str | None
    sampling: Sampling


def talk(question: Question, url: str | None = None, api_key: str | None = None) -> int:
    """Run `ekiden chat`; `url` and `api_key` come before the environment's. Main thread only: it handles Ctrl-C."""
    screen = Screen(sys.stdout, sys.stderr)
    given = {"url": url, "api_key": api_key}
    try:
        settings = load_client_settings(**{name: value for name, value in given.items() if value is not None})
        asker = Asker(settings, screen)  # a wrong URL or key is refused before anything is read
    except (SettingsError, ValueError) as error:
        screen.notice(str(error))
        return CONFIG
    try:
        return _run(question, asker, screen)
    except EkidenError as error:
        screen.notice(asker.sentence(error))
        return FAILED
    except KeyboardInterrupt:
        screen.end_line()
        return INTERRUPTED
    except BrokenPipeError:
        screen.discard()
        return PIPE_CLOSED


def _run(question: Question, asker: Asker, screen: Screen) -> int:
    if question.job is not None:
        shown = Shown()
        asyncio.run(asker.follow(question.job, shown))
        return _end(shown, screen)
    message = question.message
    if message is None:
        if sys.stdin.isatty():
            conversation = Interactive(asker, screen, question.system, question.model, question.sampling)
            conversation.run(question.conversation or NEW_CONVERSATION)
            return 0
        message = _read_all()
        if not message:
            screen.notice("There is nothing to ask: give a message, or text on stdin.")
            return USAGE
    return _once(question, message, asker, screen)


def _once(question: Question, message: str, asker: Asker, screen: Screen) -> int:
    """Show one answer."""
    said: Messages = message
    if question.system is not None:
        said = [Message("system", question.system), Message("user", message)]
    shown = Shown()
    ask = asker.answer(
        lambda client: client.chat(said, conversation=question.conversation, model=question.model, **question.sampling),
        shown,
    )
    asyncio.run(ask)
    status = _end(shown, screen)
    if question.conversation == NEW_CONVERSATION and shown.conversation is not None:
        screen.notice(asker.how_to_go_on(shown.conversation))
    return status


def _end(shown: Shown, screen: Screen) -> int:
    """Tell why an answer is not whole, where it is not; the exit status."""
    if not shown.whole:
        screen.notice("(stopped)")
        return INTERRUPTED
    if shown.short:
        screen.notice(shown.short)
    return FAILED if shown.taken else 0


def _read_all() -> str:
    """The question on stdin; empty when it is no text."""
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError:
        return ""
