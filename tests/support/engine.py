"""Collects what an engine hands out, and holds it to its promises."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.interface import Engine, EngineRequest, Finish, Output, SamplingParams

E = TypeVar("E", bound=Engine)


class Collector(Generic[E]):
    """The sink of one engine."""

    def __init__(self, engine: E) -> None:
        self.engine = engine
        self.ids: dict[str, list[int]] = defaultdict(list)
        self.ends: dict[str, Output] = {}
        self.cached: dict[str, int] = {}
        self.later_cached = 0  # told with other Outputs than the first of a request
        self.open: set[str] = set()
        self.order: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, outputs: list[Output]) -> None:
        with self._changed:
            for output in outputs:
                assert output.request_id not in self.ends, "nothing follows the end"
                self.ids[output.request_id] += output.ids
                self.order += [output.request_id] * len(output.ids)
                if output.request_id in self.cached:
                    self.later_cached += output.cached_tokens
                self.cached.setdefault(output.request_id, output.cached_tokens)
                if output.finish:
                    self.ends[output.request_id] = output
                    self.open.discard(output.request_id)
            self._changed.notify_all()

    def submit(
        self,
        name: str,
        prompt: Sequence[int],
        params: SamplingParams,
        generated: Sequence[int] = (),
        stop: frozenset[int] = frozenset(),
    ) -> None:
        with self._changed:
            self.open.add(name)
        try:
            self.engine.submit(self.request(name, prompt, params, generated, stop))
        except Exception:
            self.open.discard(name)
            raise

    @staticmethod
    def request(
        name: str,
        prompt: Sequence[int],
        params: SamplingParams,
        generated: Sequence[int] = (),
        stop: frozenset[int] = frozenset(),
    ) -> EngineRequest:
        return EngineRequest(name, tuple(prompt), params, stop, tuple(generated))

    def forget(self) -> None:
        """Forget all requests, which ended: their names are free again."""
        with self._changed:
            assert not self.open
            for kept in (self.ids, self.ends, self.cached, self.order):
                kept.clear()
            self.later_cached = 0

    def wait(self, *names: str, timeout_s: float = 60) -> None:
        """Wait until the named requests ended."""
        self._wait_for(lambda: all(name in self.ends for name in names), timeout_s, f"the end of {names}")

    def wait_ids(self, name: str, count: int, timeout_s: float = 60) -> None:
        """Wait until a request has `count` ids."""
        self._wait_for(lambda: len(self.ids[name]) >= count, timeout_s, f"{count} ids of {name}")

    def _wait_for(self, condition: object, timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not condition():  # type: ignore[operator]
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"{what} did not come")

    def run_at_once(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[list[int]]:
        """The same, all of them in the queue before the first step."""
        self.engine.hold(True)
        names = self._submit_all(prompts, params)
        self.engine.hold(False)
        return self._whole(names)

    def run(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[list[int]]:
        """Generate for all prompts at once."""
        return self._whole(self._submit_all(prompts, params))

    def _submit_all(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[str]:
        base = len(self.ends)
        names = [f"r{base + number}" for number in range(len(prompts))]
        for name, prompt in zip(names, prompts, strict=True):
            self.submit(name, prompt, params)
        return names

    def _whole(self, names: Sequence[str]) -> list[list[int]]:
        self.wait(*names)
        assert all(self.ends[name].finish is Finish.LENGTH for name in names)
        return [self.ids[name] for name in names]


@contextmanager
def checked_engines() -> Iterator[Callable[[BatchEngine], Collector[BatchEngine]]]:
    """Starts engines; at the end each is stopped, must have all its blocks, and must have ended each request once."""
    started: list[Collector[BatchEngine]] = []

    def start(engine: BatchEngine) -> Collector[BatchEngine]:
        collector = Collector(engine)
        engine.start(collector)
        started.append(collector)
        return collector

    yield start
    for collector in started:
        collector.engine.stop()
        collector.engine.check_integrity()
        stats = collector.engine.stats()
        assert stats.free_blocks == stats.total_blocks, "all blocks are free when idle"
        assert collector.open == set(), "every request ended exactly once"
