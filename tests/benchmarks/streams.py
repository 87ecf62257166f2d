"""Answers of a real model as clients of the whole path see them, each on a socket of its own."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.common import LONGEST_ROUND_S
from tests.benchmarks.load import Answer, Load, loaded


@dataclass(frozen=True, slots=True)
class Stream:
    """One answer that is done; times in seconds of one clock. `times_s` are those of its deltas."""

    asked_s: float
    times_s: Sequence[float]
    ended_s: float
    conversation: str | None
    usage: Mapping[str, int]

    @property
    def ttft_s(self) -> float:
        """From `chat` sent to the first delta received."""
        return self.times_s[0] - self.asked_s


class Streams(Load):
    """Remembers when each answer was asked for and what its ends say, of which another load has no need."""

    def __init__(self) -> None:
        super().__init__()
        self._asked_s: list[float] = []
        self._accepted: dict[str, dict[str, Any]] = {}
        self._done: dict[int, tuple[float, dict[str, Any], dict[str, Any]]] = {}
        self._over = asyncio.Event()

    def on_other(self, payload: bytes) -> None:
        now, frame = time.perf_counter(), json.loads(payload)
        if frame["type"] == "accepted":
            self._accepted[frame["job"]] = frame
        elif frame["type"] == "done":
            answer = self.by_job[frame["job"].encode()]
            self._done[answer.number] = (now, frame, self._accepted[frame["job"]])
        super().on_other(payload)
        if self.failures or self.ended == len(self.answers):
            self._over.set()

    async def stream(self, frames: Sequence[Mapping[str, object]], tokens: Sequence[int]) -> list[Stream]:
        """Ask for all of them at once, each on the next socket, and wait. Fails unless each has its number of ids."""
        self._over.clear()
        asked = []
        for line, fields, count in zip(self.lines, frames, tokens, strict=True):
            params = {"max_tokens": count, "temperature": 0}
            self._asked_s.append(time.perf_counter())
            asked.append(self.ask(line, count, **{"params": params, **fields}))
        await asyncio.wait_for(self._over.wait(), LONGEST_ROUND_S)
        assert not self.failures, self.failures[:3]
        return [self._result(answer) for answer in asked]

    def _result(self, answer: Answer) -> Stream:
        ended_s, done, accepted = self._done[answer.number]
        usage = done["usage"]
        assert usage["completion_tokens"] == done["cursor"] == answer.tokens, done
        assert answer.cursors == sorted(set(answer.cursors)), answer.cursors
        return Stream(self._asked_s[answer.number], answer.times, ended_s, accepted["conversation"], usage)


async def streamed(
    url: str,
    frames: Sequence[Mapping[str, object]],
    tokens: Sequence[int],
    begin: Callable[[], object] | None = None,
) -> list[Stream]:
    """A client for each, with an answer of that many ids; `frames` are the fields of their `chat`.

    `begin` is called when all are connected, and may block until it is time to ask.
    """
    streams = Streams()
    async with loaded(url, len(frames), streams):
        if begin:
            begin()
        return await streams.stream(frames, tokens)
