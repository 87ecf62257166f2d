"""A random walk over one engine: requests that share prefixes, and what can befall them between any two steps."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
import torch
from transformers import PreTrainedModel

from ekiden_worker.engine import engine as engine_module
from ekiden_worker.engine import flight as flight_module
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.flight import Flight
from ekiden_worker.engine.interface import EngineRequest, Finish, Output, SamplingParams
from ekiden_worker.engine.model_runner import ModelRunner
from ekiden_worker.engine.sampler import penalize, sample
from ekiden_worker.engine.scheduler import Chunk
from ekiden_worker.engine.speculation import Lookup
from tests.unit.engine.conftest import VOCAB

NOISE = 1e-4  # of logits: more than rounding differs between batches
NOISES = 64
FEW_IDS = 12  # that prompts are made of: prefixes are shared often
FAILURES_IN_A_ROW = 3  # the engine gives up after more
TIMEOUT_S = 60.0


@dataclass
class Answer:
    """A request and what came of it."""

    request: EngineRequest
    ids: list[int] = field(default_factory=list)
    finish: Finish | None = None


def random_config(source: random.Random) -> EngineConfig:
    """Small sizes, so that answers are in each other's way."""
    block_size = source.choice([2, 4, 8, 16])
    context = source.randint(24, 90)
    return EngineConfig(
        max_running=source.randint(1, 6),
        context_tokens=context,
        kv_cache_tokens=context + source.randrange(2 * context),
        block_size=block_size,
        max_batched_tokens=source.choice([1, 3, 8, 17, 32, 64]),
        lookahead=source.random() < 0.7,
        speculate=source.choice([0, 1, 3, 9]),
    )


def random_params(source: random.Random, most: int) -> SamplingParams:
    """Greedy, sampled and penalized ones."""
    greedy = source.random() < 0.4
    return SamplingParams(
        max_tokens=source.randint(1, most),
        temperature=0.0 if greedy else source.uniform(0.3, 1.5),
        top_k=source.choice([0, 0, 5, 50]),
        top_p=source.choice([1.0, 1.0, 0.9, 0.5]),
        min_p=source.choice([0.0, 0.0, 0.05]),
        repetition_penalty=source.choice([1.0, 1.0, 1.3, 0.8]),
        seed=source.randrange(1 << 63),
    )


class Walk:
    """Sink of an engine that it disturbs from inside its steps. A seed gives the same walk, but for when holds end."""

    def __init__(self, model: PreTrainedModel, source: random.Random, *, requests: int) -> None:
        self._source = source
        self._left = requests
        self.engine = BatchEngine(model, random_config(source))
        self._prompts: list[tuple[int, ...]] = []
        self._open: dict[str, Answer] = {}
        self._failures = 0
        self._broken = False
        self._changed = threading.Event()
        self._done = threading.Event()
        self.ended: list[Answer] = []

    def run(self) -> None:
        """Until every request has ended; then every block must be accounted for, and free."""
        for _ in range(min(3, self._left)):
            self._submit()
        with self._disturbed():
            self.engine.start(self)
            try:
                while not self._done.is_set():
                    assert self._changed.wait(TIMEOUT_S), "the engine does nothing"
                    self._changed.clear()
                    assert self.engine.alive
                    self.engine.hold(False)
            finally:
                self.engine.stop()
        self.engine.check_integrity()
        stats = self.engine.stats()
        assert (stats.free_blocks, stats.running, stats.waiting) == (stats.total_blocks, 0, 0)

    def __call__(self, outputs: list[Output]) -> None:
        for output in outputs:
            answer = self._open[output.request_id]
            answer.ids += output.ids
            answer.finish = output.finish
            if output.finish:
                self.ended.append(self._open.pop(output.request_id))
                self._submit(output.request_id if self._source.random() < 0.5 else None)
        if not self._open:
            self._done.set()
        self._changed.set()

    @contextmanager
    def _disturbed(self) -> Iterator[None]:
        launch, fly, guess = ModelRunner.launch, ModelRunner._flight, Lookup.guess

        def disturbed(runner: ModelRunner, chunks: list[Chunk]) -> Flight:
            self.engine.check_integrity()
            assert not any(chunk.sequence.exhausted for chunk in chunks), "nothing is computed that nobody is given"
            if chunks[0].sequence.request.request_id != "warm-up":
                self._disturb()
                self._fail()
            flight = launch(runner, chunks)
            self._failures = 0
            return flight

        def late(runner: ModelRunner, chunks: list[Chunk], chosen: torch.Tensor) -> Flight:
            if chunks[0].sequence.request.request_id != "warm-up":
                self._fail()
            return fly(runner, chunks, chosen)

        def guessed(lookup: Lookup, ids: list[int], skip: int, most: int) -> list[int]:
            return self._guess(ids, skip, most, guess(lookup, ids, skip, most))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Lookup, "guess", guessed)
            patch.setattr(flight_module, "FEW", self._source.choice([0, 1, 16]))
            patch.setattr(ModelRunner, "launch", disturbed)
            patch.setattr(ModelRunner, "_flight", late)
            patch.setattr(engine_module, "FIRST_MEMORY_WAIT_S", 0.0)
            yield

    def _disturb(self) -> None:
        """Between two steps, on the engine's thread."""
        chance = self._source.random()
        if chance < 0.06:
            self.engine.cancel(self._source.choice(list(self._open)))
        elif chance < 0.12:
            self._submit()
        elif chance < 0.15:
            self.engine.hold(True)
            self._changed.set()

    def _guess(self, ids: list[int], skip: int, most: int, own: list[int]) -> list[int]:
        """The engine's own guess, or what another answer to the same ids said, or anything; with mistakes."""
        source = self._source
        if source.random() < 0.2:
            return own
        said = ([*one.request.prompt_ids, *one.request.generated_ids, *one.ids] for one in self.ended)
        right = next((text for text in said if text[: len(ids)] == ids), ids)[len(ids) + skip :]
        more = [source.randrange(VOCAB) for _ in range(most)]
        guess = [token if source.random() < 0.85 else more[0] for token in right] + more
        return guess[: source.randint(0, most)]

    def _fail(self) -> None:
        chance = self._source.random()
        if chance < 0.06 and self._failures < FAILURES_IN_A_ROW:
            self._failures += 1
            raise MemoryError
        if chance > 0.998:
            self._broken = True
            raise ValueError("broken on purpose")

    def _submit(self, name: str | None = None) -> None:
        if not self._left:
            return
        self._left -= 1
        request = self._request(name or f"r{self._left}")
        self._prompts.append((*request.prompt_ids, *request.generated_ids))
        self._open[request.request_id] = Answer(request)
        self.engine.submit(request)

    def _request(self, name: str) -> EngineRequest:
        source, context = self._source, self.engine.context_tokens
        if self.ended and source.random() < 0.6:  # once more, perhaps cut short where it went on before
            answer = source.choice(self.ended)
            stop_ids = frozenset(source.sample(answer.ids, min(len(answer.ids), source.choice([0, 0, 1]))))
            return replace(answer.request, request_id=name, stop_ids=stop_ids, generated_ids=())
        longest = source.randint(1, context - 1)
        start = source.choice(self._prompts)[: source.randint(1, longest)] if self._prompts else ()
        more = [source.randrange(3, FEW_IDS) for _ in range(source.randint(not start, longest - len(start)))]
        prompt = (*start, *more)
        params = random_params(source, context - len(prompt))
        stop_ids = frozenset(source.sample(range(VOCAB), source.choice([0, 0, 10, 40])))
        earlier = [source.randrange(VOCAB) for _ in range(source.choice([0, 0, source.randint(0, params.max_tokens)]))]
        generated = tuple(token for token in earlier if token not in stop_ids)
        return EngineRequest(name, prompt, params, stop_ids, generated)

    def check(self, model: PreTrainedModel) -> None:
        """Each answer is what the model alone would have said, as far as it came, and ended where it must."""
        for answer in self.ended:
            _check_end(answer, errors=self._broken)
            check_ids(model, answer)


def _check_end(answer: Answer, *, errors: bool) -> None:
    request = answer.request
    whole = len(request.generated_ids) + len(answer.ids) == request.params.max_tokens
    stops = [token in request.stop_ids for token in answer.ids]
    assert not any(stops[:-1])
    if any(stops):
        assert answer.finish is Finish.STOP
    elif whole:
        assert answer.finish is Finish.LENGTH
    else:
        assert answer.finish is Finish.CANCELLED or (errors and answer.finish is Finish.ERROR)


@torch.inference_mode()
def check_ids(model: PreTrainedModel, answer: Answer) -> None:
    """Fail unless each id is the reference's choice on the ids before it, or its choice under a little noise."""
    request = answer.request
    before = [*request.prompt_ids, *request.generated_ids]
    if not answer.ids:
        return
    logits = (
        model(torch.tensor([before + answer.ids], device=model.device)).logits[0, len(before) - 1 : -1].float().cpu()
    )
    for row, token in zip(logits, answer.ids, strict=True):
        if _choices(row[None], request.params, before) != {token}:
            noise = torch.randn(NOISES, len(row), generator=torch.Generator().manual_seed(1)) * NOISE
            assert token in _choices(row + noise, request.params, before), f"{token} behind {before} of {request}"
        before.append(token)


def _choices(logits: torch.Tensor, params: SamplingParams, before: list[int]) -> set[int]:
    seen = torch.zeros(logits.shape, dtype=torch.bool)
    seen[:, before] = True
    penalties = torch.full((len(logits),), params.repetition_penalty)
    return set(sample(penalize(logits, seen, penalties), [params] * len(logits), [len(before)] * len(logits)).tolist())
