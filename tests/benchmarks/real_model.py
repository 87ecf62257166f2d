"""What the benchmarks of a real model share: their options, a worker's engine without end ids, and an engine by itself.

Answers are to have the length that was asked for, so nothing may end one early. The contract has no parameter for that;
the runtime of the worker is the usual one without its end ids.
"""

import argparse
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from ekiden.settings import DEFAULT_MODEL, Settings
from ekiden_worker import model
from ekiden_worker.engine.interface import Engine, EngineRequest, Finish, SamplingParams
from ekiden_worker.engine.interface import Output as EngineOutput
from ekiden_worker.runtime import Runtime
from tests.benchmarks.common import LONGEST_ROUND_S


def load(settings: Settings) -> Runtime:
    """The model as a worker has it, for EKIDEN_ENGINE; its answers end at `max_tokens` alone."""
    return replace(model.load(settings), end_ids=frozenset())


GREEDY = SamplingParams(max_tokens=1)

ENDLESS = f"{__name__}:{load.__name__}"


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that choose model, type and device."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--dtype", default="bfloat16", help="EKIDEN_DTYPE")
    parser.add_argument("--device", default="cpu", help="EKIDEN_DEVICE")
    return parser


def chosen(options: argparse.Namespace, cache_tokens: int) -> dict[str, str]:
    """Settings by name, for `load_settings` and, with a prefix, for a worker.

    `cache_tokens` bounds the KV cache on a GPU, of which each engine takes nearly all by itself: here two share it.
    """
    settings = {"model": options.model, "dtype": options.dtype, "device": options.device}
    return settings if options.device == "cpu" else settings | {"kv_cache_tokens": str(cache_tokens)}


def environment(settings: dict[str, str]) -> dict[str, str]:
    """The same for a worker process, whose answers have no end ids."""
    return {f"EKIDEN_{name.upper()}": value for name, value in settings.items()} | {"EKIDEN_ENGINE": ENDLESS}


@dataclass(slots=True)
class Track:
    """One request of an engine. Id n came at `times_s[n]`, with which the engine had made `steps[n]` steps."""

    asked_s: float
    ids: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    finish: Finish | None = None

    @property
    def ttft_s(self) -> float:
        """From the request to its first id."""
        return self.times_s[0] - self.asked_s

    @property
    def gaps_s(self) -> list[float]:
        """Times between two ids."""
        return [after - before for before, after in pairwise(self.times_s)]


class Alone:
    """An engine with a sink that notes when each id came, and nothing around it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._tracks: dict[str, Track] = {}
        self._asked = 0
        self._changed = threading.Condition()
        engine.start(self._take)

    def _take(self, outputs: list[EngineOutput]) -> None:
        now, steps = time.perf_counter(), self.engine.stats().steps
        with self._changed:
            for output in outputs:
                track = self._tracks[output.request_id]
                track.cached_tokens += output.cached_tokens
                track.ids += output.ids
                track.times_s += [now] * len(output.ids)
                track.steps += [steps] * len(output.ids)
                track.finish = output.finish
                if output.finish:
                    del self._tracks[output.request_id]
            self._changed.notify_all()

    def ask(self, prompt: Sequence[int], new_tokens: int, like: SamplingParams = GREEDY) -> Track:
        """Submit a request without end ids, chosen as `like` says; returns at once."""
        name = str(self._asked)
        self._asked += 1
        params = replace(like, max_tokens=new_tokens)
        request = EngineRequest(name, tuple(prompt), params, frozenset())
        track = self._tracks[name] = Track(time.perf_counter())
        self.engine.submit(request)
        return track

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds; it is looked at when ids have come. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, LONGEST_ROUND_S):
                raise TimeoutError("the engine did not come so far")

    def answers(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[Track]:
        """All answers, asked for at once. Raises RuntimeError unless each is whole."""
        tracks = [self.ask(prompt, new_tokens) for prompt in prompts]
        self.wait(lambda: all(track.finish for track in tracks))
        if any(len(track.ids) != new_tokens for track in tracks):
            raise RuntimeError(f"not every answer is whole: {[track.finish for track in tracks]}")
        return tracks

    def close(self) -> None:
        self.engine.stop()
