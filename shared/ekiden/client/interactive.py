"""A conversation at a terminal: the service keeps it, a person types its turns."""

import asyncio
import re
from dataclasses import dataclass

from ekiden.client.answer import Answer
from ekiden.client.asker import Asker, Shown
from ekiden.client.client import Client
from ekiden.client.errors import Unreachable
from ekiden.client.frames import Sampling
from ekiden.client.terminal import Prompt, Screen
from ekiden.conversations import WholeConversation
from ekiden.errors import ConversationNotFound, EkidenError
from ekiden.protocol import Message
from ekiden.validation import NEW_CONVERSATION

SIGN = "> "

HELP = """\
/again      answers the last turn again
/edit TEXT  asks the last turn anew, with another text
/help       lists these lines
Ctrl-C stops an answer; Ctrl-D, or Ctrl-C when none is under way, ends the conversation."""


@dataclass(frozen=True)
class Say:
    """The next turn."""

    text: str


@dataclass(frozen=True)
class Again:
    """The last turn again; with another `text` if there is one."""

    text: str | None = None


@dataclass(frozen=True)
class Tell:
    """A notice, and nothing to ask."""

    text: str


def parse(line: str) -> Say | Again | Tell:
    """What a line that is not blank means. One unknown /word is taken for a mistyped command, not for a message."""
    word, *more = line.split(maxsplit=1)
    rest = more[0].strip() if more else ""
    if word == "/edit":
        return Again(rest) if rest else Tell("/edit needs the new text of the last turn.")
    if rest or not re.fullmatch(r"/\w*", word):
        return Say(line)
    if word == "/again":
        return Again()
    return Tell(HELP if word == "/help" else f"There is no {word}; /help lists what there is.")


@dataclass(frozen=True)
class Turn:
    """What was said, and what was shown of the answer."""

    message: str
    answer: str


class Interactive:
    """Asks turn after turn until the person leaves. What was shown is known here too, should the service lose it."""

    def __init__(self, asker: Asker, screen: Screen, system: str | None, model: str | None, sampling: Sampling) -> None:
        self._asker = asker
        self._screen = screen
        self._model = model
        self._sampling = sampling
        self._conversation = NEW_CONVERSATION
        self._seed = [] if system is None else [Message("system", system)]
        self._turns: list[Turn] = []
        self._unanswered: Say | Again | None = None

    def run(self, conversation: str = NEW_CONVERSATION) -> None:
        """Begin a conversation, or go on with one. Raises EkidenError when the service does not let it begin."""
        if conversation == NEW_CONVERSATION:
            asyncio.run(self._check())
        else:
            self._catch_up(asyncio.run(self._recall(conversation)))
        self._screen.notice("Ctrl-C stops an answer; Ctrl-D ends the conversation; /help lists commands.")
        prompt = Prompt(SIGN)
        while True:
            try:
                line = prompt.read()
            except (EOFError, KeyboardInterrupt):
                break
            except UnicodeDecodeError:
                self._screen.notice("That line is no valid text.")
                continue
            if line.strip():
                self._on_line(line)
        self._screen.notice("")
        if self._turns:
            self._screen.notice(self._asker.how_to_go_on(self._conversation))

    async def _check(self) -> None:
        async with self._asker.client() as client:
            await client.connect()

    async def _recall(self, conversation: str) -> WholeConversation:
        """Take over what was said, and show the last of it."""
        async with self._asker.client() as client:
            kept = await client.conversations.get(conversation)
        self._conversation, self._model, self._seed = kept.id, kept.model, kept.messages
        self._turns = [Turn(turn.message, turn.answer) for turn in kept.turns]
        if kept.turn_count > 1:
            self._screen.recall(f"(turns before: {kept.turn_count - 1})")
        for turn in self._turns[-1:]:
            self._screen.recall(f"{SIGN}{turn.message}\n{turn.answer}")
        if kept.pending:
            self._screen.recall(f"{SIGN}{kept.pending.message}")
        return kept

    def _catch_up(self, kept: WholeConversation) -> None:
        """Show the answer that is under way. Leaving it does not end it: somebody else may have asked."""
        if not (kept.busy and kept.pending):
            return
        shown = Shown()
        try:
            asyncio.run(self._asker.follow(kept.busy, shown))
        except EkidenError as error:
            self._screen.notice(self._asker.sentence(error))
        except KeyboardInterrupt:
            self._screen.end_line()
            self._screen.notice(f"The answer goes on: {self._asker.command('--job', kept.busy)}")
        else:
            if shown.short:
                self._screen.notice(shown.short)
            if shown.begun:
                before = kept.pending.turn - 1 - (kept.turn_count - len(kept.turns))
                self._turns = [*self._turns[: max(0, before)], Turn(kept.pending.message, shown.text)]

    def _on_line(self, line: str) -> None:
        """Do what a line says; an error is told, and the conversation goes on."""
        meant = parse(line)
        if isinstance(meant, Tell):
            self._screen.notice(meant.text)
            return
        if isinstance(meant, Again):
            meant = self._about_the_last(meant)
        if isinstance(meant, Again) and not self._turns:
            self._screen.notice("There is nothing yet to answer again.")
            return
        try:
            self._turn(meant)
        except ConversationNotFound:
            self._screen.notice("The service no longer has this conversation; a new one goes on from here.")
            self._turn(self._anew(meant))

    def _about_the_last(self, again: Again) -> Say | Again:
        """What to ask again: the last turn, or the question after it that got no answer."""
        if isinstance(self._unanswered, Say):
            return Say(again.text or self._unanswered.text)
        return Again(again.text or (self._unanswered.text if self._unanswered else None))

    def _turn(self, asked: Say | Again) -> None:
        """One more answer. A question that got none is no part of the conversation, and /again is about it."""
        shown = Shown()
        self._unanswered = asked
        try:
            asyncio.run(self._asker.answer(lambda client: self._request(client, asked), shown))
        except ConversationNotFound:
            raise
        except EkidenError as error:
            self._screen.notice(self._asker.sentence(error))
            shown.begun &= isinstance(error, Unreachable)  # a job that failed leaves no turn; one out of sight goes on
        except KeyboardInterrupt:  # before there was an answer to cancel, or again while it was cancelled
            self._screen.end_line()
        else:
            if not shown.whole:
                self._screen.notice("(stopped)" if shown.begun else "(stopped before it began)")
            elif shown.short:
                self._screen.notice(shown.short)
        self._conversation = shown.conversation or self._conversation
        if shown.begun:
            self._remember(asked, shown.text)

    def _request(self, client: Client, asked: Say | Again) -> Answer:
        if isinstance(asked, Again):
            return client.regenerate(self._conversation, message=asked.text, **self._sampling)
        said = self._whole(asked.text) if self._conversation == NEW_CONVERSATION else asked.text
        return client.chat(said, conversation=self._conversation, model=self._model, **self._sampling)

    def _whole(self, text: str) -> list[Message]:
        """The conversation so far, and what is said now."""
        messages = list(self._seed)
        for turn in self._turns:
            messages += [Message("user", turn.message), Message("assistant", turn.answer)]
        return [*messages, Message("user", text)]

    def _remember(self, asked: Say | Again, answer: str) -> None:
        self._turns.append(Turn(self._said(asked), answer))
        self._unanswered = None

    def _anew(self, asked: Say | Again) -> Say:
        """The same question for a new conversation, which begins with all that was shown before it."""
        self._conversation = NEW_CONVERSATION
        return Say(self._said(asked))

    def _said(self, asked: Say | Again) -> str:
        """The words of a question; the turn that it replaces is forgotten."""
        if isinstance(asked, Say):
            return asked.text
        last = self._turns.pop()
        return asked.text or last.message
