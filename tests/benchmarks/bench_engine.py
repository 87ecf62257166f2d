"""The CPU engine against `model.generate` on a static batch of the same prompts.

Run it with `python -m tests.benchmarks.bench_engine`. Both sides have their own copy of the default model, the same
prompts, the same number of new ids and the same threads. Ours hands out every id as it comes; generate at its end.
"""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

import torch
from transformers import PreTrainedModel

from ekiden.settings import load_settings
from ekiden_worker.engine.interface import Engine, EngineRequest, Output, SamplingParams
from ekiden_worker.model import load, load_model
from tests.benchmarks.common import in_turns, report

ASKED_RATIO = 1.0
LONGEST_RUN_S = 120
BEGINNING = 8  # ids; less than a block of the cache
TEXT = Path(__file__).parents[2] / "LICENSE"

Prompts = list[list[int]]


@dataclass(frozen=True, slots=True)
class Case:
    """One size of the comparison; tokens are those of each request."""

    requests: int
    prompt_tokens: int
    new_tokens: int
    pairs: int
    asked: bool = True

    @property
    def name(self) -> str:
        return f"{self.requests} x ({self.prompt_tokens} + {self.new_tokens})"


CASES = (
    Case(1, 40, 48, pairs=9),
    Case(8, 40, 48, pairs=7),
    Case(32, 40, 48, pairs=5),
    Case(8, 300, 8, pairs=5, asked=False),
)


class Ours:
    """The engine as a worker builds it, with a sink that notes when each id came."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._idle = threading.Event()
        self._cached = 0
        self._open: set[str] = set()
        self._ids: dict[str, list[int]] = defaultdict(list)
        self._times_s: dict[str, list[float]] = defaultdict(list)
        self._engine.start(self._take)

    def _take(self, outputs: list[Output]) -> None:
        now = time.perf_counter()
        for output in outputs:
            self._cached += output.cached_tokens
            self._ids[output.request_id] += output.ids
            self._times_s[output.request_id].append(now)
            if output.finish:
                self._open.discard(output.request_id)
        if not self._open:
            self._idle.set()

    def generate(self, prompts: Prompts, new_tokens: int) -> list[list[int]]:
        """All answers, computed together."""
        self._ids.clear()
        self._times_s.clear()
        self._idle.clear()
        self._open = {str(number) for number in range(len(prompts))}
        params = SamplingParams(max_tokens=new_tokens)
        for number, prompt in enumerate(prompts):
            self._engine.submit(EngineRequest(str(number), prompt, params, frozenset()))
        if not self._idle.wait(timeout=LONGEST_RUN_S):
            raise TimeoutError("the engine did not end its requests")
        answers = [self._ids[str(number)] for number in range(len(prompts))]
        if self._cached or any(len(answer) != new_tokens for answer in answers):
            raise RuntimeError("not every prompt was computed, or not every answer is whole")
        return answers

    def gaps_s(self) -> Iterator[float]:
        """Times between two ids of one answer, over the answers of the last `generate`."""
        for times in self._times_s.values():
            yield from (after - before for before, after in pairwise(times))

    def close(self) -> None:
        self._engine.stop()


class Theirs:
    """transformers' own loop on a static batch, greedy and without an end id."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    @torch.inference_mode()
    def generate(self, prompts: Prompts, new_tokens: int) -> list[list[int]]:
        ids = torch.tensor(prompts)
        answers: torch.Tensor = self._model.generate(  # type: ignore[operator]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=self._model.config.get_text_config().vocab_size,
        )
        result: list[list[int]] = answers[:, ids.shape[1] :].tolist()
        return result


class Text:
    """Windows of a text as prompts; all begin differently, so the engine's prefix cache has nothing to offer."""

    def __init__(self, ids: list[int], longest: int) -> None:
        self._ids = ids
        self._starts = list({tuple(ids[at : at + BEGINNING]): at for at in range(len(ids) - longest)}.values())
        random.Random(0).shuffle(self._starts)

    def prompts(self, case: Case) -> Prompts:
        """New prompts for one round."""
        return [self._ids[at : at + case.prompt_tokens] for at in (self._starts.pop() for _ in range(case.requests))]


@dataclass(frozen=True, slots=True)
class Figures:
    """What one case gave; `gap` is the time between two ids of one answer of ours."""

    ours_tokens_per_s: float
    generate_tokens_per_s: float
    ratio: float
    gap_p50_ms: float
    gap_p99_ms: float
    equal_answers: int


def measure(case: Case, text: Text, ours: Ours, theirs: Theirs) -> Figures:
    """Run one case."""
    warm, *rounds = [text.prompts(case) for _ in range(case.pairs + 1)]
    answers = ours.generate(warm, case.new_tokens)
    expected = theirs.generate(warm, case.new_tokens)
    gaps_s: list[float] = []

    def run_ours(number: int) -> None:
        ours.generate(rounds[number], case.new_tokens)
        gaps_s.extend(ours.gaps_s())

    paired = in_turns(case.pairs, run_ours, lambda number: theirs.generate(rounds[number], case.new_tokens))
    tokens = case.requests * case.new_tokens
    return Figures(
        ours_tokens_per_s=round(tokens / median(paired.ours_s), 1),
        generate_tokens_per_s=round(tokens / median(paired.theirs_s), 1),
        ratio=round(paired.ratio, 3),
        gap_p50_ms=round(median(gaps_s) * 1e3, 2),
        gap_p99_ms=round(quantiles(gaps_s, n=100)[98] * 1e3, 2),
        equal_answers=sum(a == b for a, b in zip(answers, expected, strict=True)),
    )


LINE = "{:>14} {:>12} {:>15} {:>7} {:>12} {:>12} {:>7}"


def main() -> None:
    settings = load_settings()
    model, tokenizer = load_model(settings)
    ids = tokenizer.raw.encode(TEXT.read_text(), add_special_tokens=False).ids
    text = Text(ids, longest=max(case.prompt_tokens for case in CASES))
    theirs = Theirs(model)
    figures: dict[str, Figures] = {}
    with closing(Ours(load(settings).engine)) as ours:
        print(f"{settings.model_name}, {model.dtype}, {torch.get_num_threads()} threads; requests x (prompt + new ids)")
        print(LINE.format("case", "ours tok/s", "generate tok/s", "ratio", "gap p50 ms", "gap p99 ms", "equal"))
        for case in CASES:
            figures[case.name] = found = measure(case, text, ours, theirs)
            print(LINE.format(case.name, *(str(value) for value in astuple(found))), flush=True)
    missed = [case.name for case in CASES if case.asked and figures[case.name].ratio < ASKED_RATIO]
    cases = {name: asdict(found) for name, found in figures.items()}
    report({"benchmark": "engine", "asked_ratio": ASKED_RATIO, "cases": cases}, missed)


if __name__ == "__main__":
    main()
