"""Clients that ask without pause, and hold every answer to what an undisturbed run says."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from ekiden.client import Answer, Client
from ekiden.errors import EkidenError
from ekiden.protocol import Accepted, Attached, Delta, Done, Moved, Started
from tests.chaos.question import Question

Verdict = Literal["whole", "lost", "doubled", "altered", "failed"]

NOTED_GAP_S = 0.1
"""Shorter silences between two pieces of an answer are not noted."""
STALL_S = 0.25
"""An answer that stood still for longer was touched by a fault."""
ANSWER_TIMEOUT_S = 240.0
CLIENTS = 12


@dataclass(slots=True)
class Track:
    """One answer as its client saw it; moments are of time.monotonic()."""

    question: Question
    job: str | None = None
    verdict: Verdict | None = None
    reason: str = ""
    accepted: float | None = None
    started: float | None = None
    progress: float | None = None
    """The last moment at which it started or grew."""
    attempt: int = 0
    gaps: list[tuple[float, float]] = field(default_factory=list)
    moves: list[float] = field(default_factory=list)
    attaches: list[float] = field(default_factory=list)

    def accept(self, job: str) -> None:
        """The service has it, since now or longer."""
        self.job = job
        self.accepted = self.accepted or time.monotonic()

    def on_attempt(self, attempt: int) -> None:
        """A frame tells which attempt it is; after the first, another is a move."""
        if attempt > self.attempt > 0:
            self.moves.append(time.monotonic())
        self.attempt = max(attempt, self.attempt)

    def grew(self) -> None:
        """It started or grew, now."""
        now = time.monotonic()
        self.started = self.started or now
        if self.progress is not None and now - self.progress > NOTED_GAP_S:
            self.gaps.append((self.progress, now))
        self.progress = now

    def moved(self, since: float, until: float) -> bool:
        """Whether it went to another worker within a span of time."""
        return any(since < moment < until for moment in self.moves)

    def touched(self, since: float, until: float) -> bool:
        """Whether it moved, lost its connection or stood still for long within a span of time."""
        came_back = self.progress is not None and any(since < moment < until for moment in self.attaches)
        return came_back or self.moved(since, until) or self.stall_s(since, until) > STALL_S

    def waited_s(self, since: float, until: float) -> float | None:
        """From accepted to started, of one that was accepted within a span of time."""
        if self.accepted is None or self.started is None or not since < self.accepted < until:
            return None
        return self.started - self.accepted

    def stall_s(self, since: float, until: float) -> float:
        """The longest silence that overlaps a span of time; 0 where none was noted."""
        return max((end - start for start, end in self.gaps if start < until and end > since), default=0.0)


class Load:
    """Keeps a number of answers open until it is told to stop. Event loop only."""

    def __init__(self, urls: list[str], open_answers: int, tokens: tuple[int, int], seed: int) -> None:
        self._urls = urls
        self._open_answers = open_answers
        self._tokens = tokens
        self._random = random.Random(seed)
        self._stopping = False
        self.tracks: list[Track] = []
        self.conversations: dict[str, list[Question]] = {}
        """Those whose turns all went well."""
        self.on_accepted: Callable[[str], None] = lambda _job: None

    @property
    def open(self) -> list[Track]:
        """Answers that have not ended."""
        return [track for track in self.tracks if track.verdict is None]

    @property
    def running(self) -> list[Track]:
        """Open answers that have started."""
        return [track for track in self.open if track.progress is not None]

    @property
    def ended(self) -> int:
        """How many answers have ended."""
        return sum(track.verdict is not None for track in self.tracks)

    def wrong(self) -> list[Track]:
        """Answers that ended otherwise than an undisturbed run."""
        return [track for track in self.tracks if track.verdict not in (None, "whole")]

    @asynccontextmanager
    async def asking(self) -> AsyncIterator["Load"]:
        """Ask for the length of an `async with` block; its end waits for the open answers."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                share = len(range(number, self._open_answers, CLIENTS))
                turn = number % len(self._urls)
                tasks.create_task(self._ask(self._urls[turn:] + self._urls[:turn], share))
            try:
                yield self
            finally:
                self._stopping = True

    async def _ask(self, urls: list[str], share: int) -> None:
        client = Client(urls, give_up_after_s=None, keepalive_s=1.0, on_retry=lambda _retry: None)
        async with client, asyncio.TaskGroup() as tasks:
            for _ in range(share):
                tasks.create_task(self._ask_on(client))

    async def _ask_on(self, client: Client) -> None:
        """One question after the other; every fifth begins a kept conversation of two turns."""
        while not self._stopping:
            number = len(self.tracks)
            question = Question.random(self._random, number, self._tokens)
            if number % 5 or question.stop:
                await self._answer(client, question, None)
            elif conversation := await self._answer(client, question, "new"):
                following = question.following("And then?")
                if await self._answer(client, following, conversation):
                    self.conversations[conversation] = [question, following]

    async def _answer(self, client: Client, question: Question, conversation: str | None) -> str | None:
        """Ask, follow and judge; returns the conversation that the answer is kept in, if it went well."""
        track = Track(question)
        self.tracks.append(track)
        answer = client.chat(
            question.text,
            conversation=conversation,
            seed=question.seed,
            max_tokens=question.tokens,
            stop=question.stop,
        )
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                track.verdict, track.reason = await self._follow(answer, track)
        except TimeoutError:
            track.verdict, track.reason = "lost", "it did not end"
        except EkidenError as error:
            track.verdict, track.reason = "failed", f"{error.code}: {error}"
        return answer.conversation if track.verdict == "whole" else None

    async def _follow(self, answer: Answer, track: Track) -> tuple[Verdict, str]:
        expected = track.question.expected()
        cursor = length = 0
        async for event in answer.events():
            if isinstance(event, Accepted):
                track.accept(event.job)
                self.on_accepted(event.job)
            elif isinstance(event, Moved):
                track.on_attempt(event.attempt)
            elif isinstance(event, Attached):
                track.attaches.append(time.monotonic())
                track.on_attempt(event.attempt)
            elif isinstance(event, Started):
                track.on_attempt(event.attempt)
                track.grew()
            elif isinstance(event, Delta):
                track.grew()
                if event.cursor <= cursor:
                    return "doubled", f"cursor {event.cursor} after {cursor}"
                cursor, start, length = event.cursor, length, length + len(event.text)
                if length != expected.shown[cursor]:
                    kind: Verdict = "doubled" if length > expected.shown[cursor] else "lost"
                    return kind, f"{length} characters at cursor {cursor}"
                if expected.text[start:length] != event.text:
                    return "altered", f"at cursor {cursor}"
            elif isinstance(event, Done):
                track.grew()
                end = (event.finish_reason, event.cursor, length)
                if end != (expected.finish_reason, len(expected.ids), len(expected.text)):
                    return "lost", f"{end} after cursor {cursor}"
                return "whole", ""
        return "lost", "it has no end"
