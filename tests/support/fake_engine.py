"""An engine without a model, for tests and benchmarks of everything around it: the next id is a hash of all ids before.

Loaded by a real worker process with EKIDEN_ENGINE=tests.support.fake_engine:load. EKIDEN_TEST_STEP_S: length of a step;
EKIDEN_TEST_STEP_IDS: how many ids it gives each request, as one that speculates may.
A prompt that holds HANG or DIE makes the engine do so when it begins; one that holds SLOW takes seconds to build, and
one that holds WAIT generates nothing. EKIDEN_TEST_FAULT_FILE: the engine fails when this file appears: it hangs where
the file holds "hang", and its thread ends otherwise.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ekiden.protocol import Message
from ekiden.settings import Settings
from ekiden_worker.engine.interface import EngineError, EngineRequest, EngineStats, Finish, Output, check_request
from ekiden_worker.prompts import PromptRules
from ekiden_worker.runtime import Runtime
from ekiden_worker.text import Vocabulary
from tests.support.bytes_format import BytesFormat

VOCAB = 5000
END = 0
CONTEXT = 4096
VOCABULARY = Vocabulary(
    pieces=(None, *(f"w{token} ".encode() for token in range(1, VOCAB))),
    strip_leading_space=False,
    control_breaks=False,
)
FORMAT = BytesFormat()


def prompt_ids(messages: Sequence[Message]) -> list[int]:
    """The prompt of a request's messages."""
    return FORMAT.encode(FORMAT.parts(messages))


def prompt_after(prompt: Sequence[int], answer: Sequence[int], message: str) -> list[int]:
    """The prompt of the next turn of a kept conversation."""
    return [*prompt, *answer, *FORMAT.encode(FORMAT.following(None, Message("user", message), ended=False))]


class Chain:
    """A running hash of ids; cheap to extend."""

    def __init__(self, seed: int, ids: Sequence[int]) -> None:
        self.state = seed & 0xFFFFFFFF
        for token in ids:
            self.push(token)

    def push(self, token: int) -> None:
        self.state = (self.state * 0x01000193 ^ token * 0x9E3779B1) & 0xFFFFFFFFFFFF

    def next(self) -> int:
        """The next id; never the end id."""
        return 1 + (self.state >> 7) % (VOCAB - 1)


def expected_ids(messages: Sequence[Message], seed: int, count: int) -> list[int]:
    """What an undisturbed run generates."""
    return continued(prompt_ids(messages), seed, count)


def continued(prompt: Sequence[int], seed: int, count: int) -> list[int]:
    """What is generated behind a prompt."""
    chain, ids = Chain(seed, prompt), list[int]()
    for _ in range(count):
        ids.append(chain.next())
        chain.push(ids[-1])
    return ids


def text_of(ids: Sequence[int]) -> str:
    """The text of generated ids."""
    return "".join(f"w{token} " for token in ids)


def expected(count: int, text: str = "Hello", seed: int = 1) -> str:
    """The answer to one user message."""
    return text_of(expected_ids([Message("user", text)], seed, count))


@dataclass(slots=True)
class _Running:
    request: EngineRequest
    chain: Chain
    left: int
    waits: bool = False


@dataclass
class FakeEngine:
    """See `interface.Engine`; `step_ids` ids for every running request a step."""

    step_s: float
    max_running: int
    context_tokens: int = CONTEXT
    fault: Path | None = None
    step_ids: int = 1
    _commands: "queue.SimpleQueue[Callable[[], None] | None]" = field(default_factory=queue.SimpleQueue)
    _running: dict[str, _Running] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _outputs: list[Output] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _last_step: float = 0.0
    _held: bool = False
    _steps: int = 0
    _prompt_tokens: int = 0

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, sink: Callable[[list[Output]], None]) -> None:
        self._thread = threading.Thread(target=self._run, args=(sink,), daemon=True)
        self._thread.start()

    def submit(self, request: EngineRequest) -> None:
        check_request(request, VOCAB, self.context_tokens)
        if request.request_id in self._known:
            raise EngineError("duplicate_request", "it runs already")
        self._known.add(request.request_id)
        self._commands.put(lambda: self._begin(request))

    def cancel(self, request_id: str) -> None:
        self._commands.put(lambda: self._finish(request_id, Finish.CANCELLED))

    def stats(self) -> EngineStats:
        age = time.monotonic() - self._last_step if self._running and not self._held else None
        running, most = len(self._running), self.max_running
        return EngineStats(running, 0, most - running, most, self._steps, 0, age, self._prompt_tokens)

    def hold(self, held: bool) -> None:
        def change() -> None:
            self._held, self._last_step = held, time.monotonic()

        self._commands.put(change)

    def stop(self) -> None:
        self._commands.put(None)

    def _begin(self, request: EngineRequest) -> None:
        prompt = bytes(token - 1 for token in request.prompt_ids if token <= 256)  # without kept answers
        if b"DIE" in prompt:
            os._exit(139)
        if not self._running:
            self._last_step = time.monotonic()
        self._prompt_tokens += len(request.prompt_ids) + len(request.generated_ids)
        chain = Chain(request.params.seed, [*request.prompt_ids, *request.generated_ids])
        left = request.params.max_tokens - len(request.generated_ids)
        self._running[request.request_id] = _Running(request, chain, left, b"WAIT" in prompt)
        if request.generated_ids and (left <= 0 or request.generated_ids[-1] in request.stop_ids):
            self._finish(request.request_id, Finish.LENGTH if left <= 0 else Finish.STOP)
        while b"HANG" in prompt:
            time.sleep(60)

    def _finish(self, request_id: str, reason: Finish, ids: tuple[int, ...] = ()) -> None:
        if self._running.pop(request_id, None):
            self._known.discard(request_id)
            self._outputs.append(Output(request_id, ids, reason))

    def _run(self, sink: Callable[[list[Output]], None]) -> None:
        due = time.monotonic()
        while True:
            resting = self._held or not self._running
            try:
                command = self._commands.get(block=resting and not self._outputs)
            except queue.Empty:
                pass
            else:
                if command is None:
                    for name in list(self._running):
                        self._finish(name, Finish.CANCELLED)
                    sink(self._outputs)
                    return
                command()
                if resting:  # else it keeps its pace, as a command costs a real engine no time
                    due = max(due, time.monotonic())
                continue
            self._fail_if_told()
            if not self._held:
                for name in [name for name, running in self._running.items() if not running.waits]:
                    self._advance(name)
                self._steps += 1
            self._last_step = time.monotonic()
            outputs, self._outputs = self._outputs, []
            sink(outputs)
            due += self.step_s
            time.sleep(max(0.0, due - time.monotonic()))

    def _fail_if_told(self) -> None:
        if self.fault and self.fault.exists():
            while self.fault.read_text() == "hang":
                time.sleep(60)
            raise RuntimeError("it ends because the test says so")

    def _advance(self, name: str) -> None:
        running = self._running[name]
        ids = list[int]()
        for _ in range(min(self.step_ids, running.left)):
            ids.append(running.chain.next())
            running.chain.push(ids[-1])
            if ids[-1] in running.request.stop_ids:
                self._finish(name, Finish.STOP, tuple(ids))
                return
        running.left -= len(ids)
        if running.left <= 0:
            self._finish(name, Finish.LENGTH, tuple(ids))
        else:
            self._outputs.append(Output(name, tuple(ids)))


def load(settings: Settings) -> Runtime:
    """What EKIDEN_ENGINE names."""
    step_s = float(os.environ.get("EKIDEN_TEST_STEP_S", "0.01"))
    step_ids = int(os.environ.get("EKIDEN_TEST_STEP_IDS", "1"))
    fault = os.environ.get("EKIDEN_TEST_FAULT_FILE")
    return Runtime(
        model=settings.model_name,
        engine=FakeEngine(step_s, settings.max_running, fault=Path(fault) if fault else None, step_ids=step_ids),
        prompts=FORMAT,
        rules=PromptRules.of(settings),
        vocabulary=VOCABULARY,
        end_ids=frozenset({END}),
        replace=settings.replace_output,
    )
