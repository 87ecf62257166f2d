"""The seam between Ekiden and a model runtime: ids in, ids out; knows no text, no Redis and no torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class EngineError(Exception):
    """A request the engine refuses, or an engine that cannot be had; `code` says why, for programs."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose the next id. `temperature` 0 is greedy; `top_k` 0, `top_p` 1 and `min_p` 0 are off."""

    max_tokens: int
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One answer to generate.

    `generated_ids` are ids an earlier attempt already produced: they are prefilled with the prompt, count towards
    `max_tokens`, and are not reported again. `stop_ids` end the answer and are reported as its last id.
    """

    request_id: str
    prompt_ids: Sequence[int]
    params: SamplingParams
    stop_ids: frozenset[int]
    generated_ids: Sequence[int] = ()


def check_request(request: EngineRequest, vocab_size: int, context_tokens: int) -> None:
    """What every engine refuses, before anything is queued. Raises EngineError (see `Engine.submit`)."""
    ids = [*request.prompt_ids, *request.generated_ids]
    if not request.prompt_ids:
        raise EngineError("empty_prompt", "The prompt has no ids.")
    if not all(0 <= token_id < vocab_size for token_id in ids):
        raise EngineError("bad_token", f"The prompt holds an id outside the vocabulary of {vocab_size}.")
    _check_params(request.params)
    total = len(request.prompt_ids) + request.params.max_tokens
    if total > context_tokens:
        raise EngineError(
            "prompt_too_long",
            f"The prompt's {len(request.prompt_ids)} tokens and max_tokens {request.params.max_tokens} are more "
            f"than the {context_tokens} tokens of the context.",
        )


def _check_params(params: SamplingParams) -> None:
    ranges = {
        "max_tokens": params.max_tokens >= 1,
        "temperature": 0 <= params.temperature < math.inf,
        "top_k": params.top_k >= 0,
        "top_p": 0 < params.top_p <= 1,
        "min_p": 0 <= params.min_p <= 1,
        "repetition_penalty": 0 < params.repetition_penalty < math.inf,
        "seed": 0 <= params.seed < 1 << 63,
    }
    for name, fits in ranges.items():
        if not fits:
            raise EngineError("out_of_range", f"{name} is out of range.")


class Finish(StrEnum):
    """Why a request ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Output:
    """New ids of one request. A request ends with exactly one Output whose `finish` is set.

    `cached_tokens` counts prompt ids whose attention state was reused; set on the first Output of a request.
    """

    request_id: str
    ids: Sequence[int] = ()
    finish: Finish | None = None
    cached_tokens: int = 0
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot for operators; reading it never blocks a step.

    `prompt_tokens` counts the ids of requests as they were admitted, one that was preempted again; `cached_tokens`
    those of them whose attention state was reused. `proposed_tokens` counts the ids that speculation guessed,
    `accepted_tokens` those of them that were right. `last_step_age_s`: how long ago the last step ended; None when
    nothing is pending or the engine is held. A hung engine shows here.
    """

    running: int
    waiting: int
    free_blocks: int
    total_blocks: int
    steps: int
    preemptions: int
    last_step_age_s: float | None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    proposed_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def held_blocks(self) -> int:
        """Blocks that requests hold; those that are only kept for later prefixes are free."""
        return self.total_blocks - self.free_blocks


class Engine(Protocol):
    """A continuous-batching generator with its own thread.

    `submit`, `cancel` and `hold` may be called from any thread and return at once. The outputs of a step are handed to
    the sink given to `start`, on the engine thread; the sink must not block.
    """

    @property
    def context_tokens(self) -> int:
        """The longest prompt + answer, in ids."""
        ...

    @property
    def max_running(self) -> int:
        """How many requests are generated at the same time."""
        ...

    @property
    def alive(self) -> bool:
        """False once the engine thread ended, by `stop` or by a fault that needs a new process."""
        ...

    def start(self, sink: Callable[[list[Output]], None]) -> None:
        """Start the engine thread and warm up; returns when the first request would be served at full speed."""
        ...

    def submit(self, request: EngineRequest) -> None:
        """Queue a request.

        Raises EngineError (`empty_prompt`, `bad_token`, `prompt_too_long`, `out_of_range`, `duplicate_request`); then
        nothing is queued.
        """
        ...

    def cancel(self, request_id: str) -> None:
        """End a request within one step, with an Output whose finish is CANCELLED; unknown ids are ignored."""
        ...

    def hold(self, held: bool) -> None:
        """Take no step while held; requests stay, and can be cancelled. Any thread; returns at once."""
        ...

    def stats(self) -> EngineStats:
        """A snapshot of the engine's state."""
        ...

    def stop(self) -> None:
        """End the engine thread after the current step; requests still running end with CANCELLED."""
        ...
