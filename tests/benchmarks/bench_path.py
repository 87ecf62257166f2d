"""The whole path with a real model, WebSocket → API → store → Celery worker → engine, and the engine by itself.

So many clients ask at once, each for one greedy answer of exactly as many tokens as were asked for. The same chats go
through the path and to an engine in a process of its own, by turns: whichever has nothing to do sleeps. Tokens/s are
those of a round, from the first `chat` sent to the last answer's end; a gap is the time between two deltas of an
answer. Asked of the default model in bfloat16 on two cores are the tokens/s of `ASKED`; `OTHERS` names what others gave
there once, so many requests at a time.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, astuple, dataclass
from itertools import chain, pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from ekiden.settings import DEFAULT_MODEL, load_settings
from ekiden_worker import model
from tests.benchmarks.chats import Chat, Chats, prompt_of
from tests.benchmarks.common import in_turns, percentile, report
from tests.benchmarks.load import run
from tests.benchmarks.real_model import Alone, chosen, environment, parser_of
from tests.benchmarks.streams import streamed
from tests.support.processes import processes
from tests.support.valkey import running_valkey

START_S = 600.0  # a large model is read from disk
ROUNDS = {1: 7, 8: 5, 32: 3}
PROMPT_TOKENS, ANSWER_TOKENS = 40, 64
ASKED = {1: 26.0, 8: 120.0, 32: 150.0}
OTHERS: dict[str, dict[int, float]] = {
    "vLLM": {1: 25.6, 8: 111, 32: 134},
    "llama.cpp": {1: 42, 8: 55, 32: 60},
    "serve": {1: 20, 8: 51, 32: 41},  # transformers serve
    "generate": {1: 19, 8: 69, 32: 81},
}


@dataclass(frozen=True, slots=True)
class Round:
    """What clients saw of answers that were asked for at once."""

    seconds: float
    tokens: int
    ttfts_s: list[float]
    gaps_s: list[float]

    @classmethod
    def of(cls, asked_s: Sequence[float], times_s: Sequence[Sequence[float]], end_s: float, tokens: int) -> "Round":
        firsts = zip(asked_s, times_s, strict=True)
        gaps = (after - before for times in times_s for before, after in pairwise(times))
        return cls(end_s - min(asked_s), tokens, [times[0] - asked for asked, times in firsts], list(gaps))


@dataclass(frozen=True, slots=True)
class Figures:
    """The rounds of one case on one side."""

    tokens_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    gap_p50_ms: float
    gap_p99_ms: float

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Figures":
        ttfts = list(chain.from_iterable(one.ttfts_s for one in rounds))
        gaps = list(chain.from_iterable(one.gaps_s for one in rounds))
        in_ms = [round(percentile(values, share) * 1e3, 1) for values in (ttfts, gaps) for share in (0.5, 0.99)]
        return cls(round(median(one.tokens / one.seconds for one in rounds), 1), *in_ms)


@dataclass(frozen=True, slots=True)
class Case:
    """One number of clients; `ratio` is the path's tokens/s to the engine's, the median over pairs of rounds."""

    path: Figures
    engine: Figures
    ratio: float
    rounds: int


class EngineProcess:
    """The parent's side of the process with an engine alone. It makes the chats too, for it has the tokenizer."""

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self._pipe = pipe

    def chats(self, count: int, tokens: int) -> list[Chat]:
        """New chats whose prompts have that many ids."""
        found: list[Chat] = self._answer("chats", count, tokens)
        return found

    def round(self, chats: Sequence[Chat], tokens: int) -> Round:
        """What the engine alone makes of them."""
        found: Round = self._answer("round", chats, tokens)
        return found

    def _answer(self, *question: object) -> Any:
        self._pipe.send(question)
        if not self._pipe.poll(START_S):
            raise TimeoutError("the engine's process does not answer")
        return self._pipe.recv()


def serve(pipe: "Connection[Any, Any]", settings: dict[str, str]) -> None:
    """The child's side, until the pipe is closed."""
    runtime = model.load(load_settings(**settings))
    chats = Chats(runtime.prompts)
    with closing(Alone(runtime.engine)) as alone, suppress(EOFError):
        while True:
            kind, what, tokens = pipe.recv()
            if kind == "chats":
                pipe.send([chats.chat(tokens) for _ in range(what)])
            else:
                pipe.send(engine_round(alone, [prompt_of(runtime.prompts, chat) for chat in what], tokens))


def engine_round(alone: Alone, prompts: Sequence[Sequence[int]], tokens: int) -> Round:
    """All answers of the engine by itself."""
    tracks = alone.answers(prompts, tokens)
    if any(track.cached_tokens for track in tracks):
        raise RuntimeError("not every prompt was computed")
    times_s = [track.times_s for track in tracks]
    end_s = max(times[-1] for times in times_s)
    return Round.of([track.asked_s for track in tracks], times_s, end_s, tokens * len(tracks))


def path_round(url: str, chats: Sequence[Chat], tokens: int) -> Round:
    """All answers over the path."""
    streams = run(streamed(url, [{"messages": chat} for chat in chats], [tokens] * len(chats)))
    assert not any(stream.usage["cached_tokens"] for stream in streams), "not every prompt was computed"
    times_s = [stream.times_s for stream in streams]
    end_s = max(stream.ended_s for stream in streams)
    return Round.of([stream.asked_s for stream in streams], times_s, end_s, tokens * len(streams))


@contextmanager
def engine_process(settings: dict[str, str]) -> Iterator[EngineProcess]:
    """An engine in a process of its own for the length of a `with` block."""
    context = multiprocessing.get_context("spawn")  # a fork would share the threads of torch
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(theirs, settings), daemon=True)
    child.start()
    theirs.close()
    try:
        yield EngineProcess(ours)
    finally:
        ours.close()
        child.join(30)
        child.kill()


def measure(engine: EngineProcess, url: str, clients: int, options: argparse.Namespace) -> Case:
    """One number of clients, by turns, after a round on each side that does not count."""
    count = options.rounds or ROUNDS.get(clients, min(ROUNDS.values()))
    warm, *rounds = [engine.chats(clients, options.prompt_tokens) for _ in range(count + 1)]
    path_round(url, warm, options.answer_tokens)
    engine.round(warm, options.answer_tokens)
    path: list[Round] = []
    alone: list[Round] = []
    in_turns(
        count,
        lambda number: path.append(path_round(url, rounds[number], options.answer_tokens)),
        lambda number: alone.append(engine.round(rounds[number], options.answer_tokens)),
    )
    ratio = median(theirs.seconds / ours.seconds for ours, theirs in zip(path, alone, strict=True))
    return Case(Figures.of(path), Figures.of(alone), round(ratio, 3), count)


LINE = "{:>7} {:>6} {:>8} {:>6} {:>9} {:>9} {:>8} {:>8} {:>8} {:>6}" + " {:>9}" * len(OTHERS)
HEAD = ("clients", "rounds", "tokens/s", "asked", "ttft p50", "ttft p99", "gap p50", "gap p99", "engine", "ratio")


def line(clients: int, case: Case, asked: Mapping[int, float]) -> str:
    """A row of the table; what others gave is beside the sizes that it was measured at."""
    others = [str(figures.get(clients, "")) if asked else "" for figures in OTHERS.values()]
    found = [str(clients), str(case.rounds), str(case.path.tokens_per_s), str(asked.get(clients, ""))]
    found += [f"{value:.1f}" for value in astuple(case.path)[1:]]
    return LINE.format(*found, str(case.engine.tokens_per_s), f"{case.ratio:.3f}", *others)


def parsed() -> argparse.Namespace:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--clients", default=",".join(map(str, ASKED)), help="numbers of clients")
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    parser.add_argument("--answer-tokens", type=int, default=ANSWER_TOKENS)
    parser.add_argument("--rounds", type=int, default=0, help="of each case; 0: as many as its size asks for")
    options = parser.parse_args()
    options.clients = [int(clients) for clients in options.clients.split(",")]
    return options


def asked_of(options: argparse.Namespace) -> Mapping[int, float]:
    """What is asked of these options: nothing, unless they are the ones that it was set for."""
    chosen_ones = (options.model, options.dtype, options.device, options.prompt_tokens, options.answer_tokens)
    return ASKED if chosen_ones == (DEFAULT_MODEL, "bfloat16", "cpu", PROMPT_TOKENS, ANSWER_TOKENS) else {}


def measured(options: argparse.Namespace, folder: Path) -> dict[int, Case]:
    """All cases, on one engine process and one fleet."""
    most = max(options.clients)
    settings = chosen(options, 4 * most * (options.prompt_tokens + options.answer_tokens))
    settings["max_running"] = str(max(32, most))
    asked = asked_of(options)
    cases: dict[int, Case] = {}
    with engine_process(settings) as engine, running_valkey(folder) as store:
        engine.chats(0, 0)  # it fetches a model that is not here yet
        with processes(load_settings(redis_url=store.url, key_prefix="bench"), folder) as fleet:
            fleet.worker(**environment(settings))
            api = fleet.api()
            print(f"{options.model}, {options.dtype}, {options.device}: tokens/s, ms, the engine by itself, others")
            print(LINE.format(*HEAD, *OTHERS))
            for clients in options.clients:
                cases[clients] = measure(engine, api.socket, clients, options)
                print(line(clients, cases[clients], asked), flush=True)
    return cases


def main() -> None:
    """Run once and report."""
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        cases = measured(options, Path(folder))
    asked = asked_of(options)
    missed = [str(clients) for clients, case in cases.items() if case.path.tokens_per_s < asked.get(clients, 0)]
    figures = {"benchmark": "path", **vars(options), "asked": asked}
    report({**figures, "cases": {clients: asdict(case) for clients, case in cases.items()}}, missed)


if __name__ == "__main__":
    main()
