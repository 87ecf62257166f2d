"""Time to first token of a conversation's second turn behind 2,000 tokens of history, against the same without a cache.

On the engine by itself, and over the whole path with a kept conversation. In each pair the second turn of a new history
is asked for, and a prompt as long as its own that the prefix cache knows nothing of: on the engine the same ids but for
the first, over the path another history. Asked: at most 25 % of the time, and `cached_tokens` must be what the first
turn left behind, its prompt and its answer, up to a whole block, and none of the other prompt.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median

from ekiden.protocol import Message
from ekiden.settings import load_settings
from ekiden_worker import model
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.prompts import PromptFormat
from tests.benchmarks.chats import Chats, prompt_of
from tests.benchmarks.common import in_turns, report
from tests.benchmarks.load import run
from tests.benchmarks.real_model import Alone, chosen, environment, parser_of
from tests.benchmarks.streams import Stream, streamed
from tests.support.processes import processes
from tests.support.valkey import running_valkey

HISTORY_TOKENS, ANSWER_TOKENS = 2000, 32
NEW_TOKENS = 4  # of the second turn's answer; its first is what counts
PAIRS = 5
QUESTION = "Which of these conditions would you name first, and why?"
ASKED_RATIO = 0.25
BLOCK = EngineConfig().block_size


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt of which `known` ids were computed before, and what was said about it."""

    ttft_s: float
    prompt_tokens: int
    known: int
    cached_tokens: int

    @property
    def true(self) -> bool:
        """What is known is reused up to a whole block, and nothing else is said to be."""
        return self.known // BLOCK * BLOCK == self.cached_tokens


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the pairs; `ratio` is that of each pair."""

    warm_ms: float
    cold_ms: float
    ratio: float
    prompt_tokens: int
    cached_tokens: int
    cached_is_true: bool

    @classmethod
    def of(cls, warm: Sequence[Turn], cold: Sequence[Turn]) -> "Figures":
        return cls(
            warm_ms=round(median(turn.ttft_s for turn in warm) * 1e3, 1),
            cold_ms=round(median(turn.ttft_s for turn in cold) * 1e3, 1),
            ratio=round(median(ours.ttft_s / theirs.ttft_s for ours, theirs in zip(warm, cold, strict=True)), 3),
            prompt_tokens=round(median(turn.prompt_tokens for turn in warm)),
            cached_tokens=round(median(turn.cached_tokens for turn in warm)),
            cached_is_true=all(turn.true for turn in (*warm, *cold)),
        )


def paired(pairs: int, warm: Callable[[], Turn], cold: Callable[[], Turn]) -> Figures:
    """Both sides by turns, after one of each that does not count."""
    warm(), cold()
    turns: dict[str, list[Turn]] = {"warm": [], "cold": []}
    in_turns(pairs, lambda _: turns["warm"].append(warm()), lambda _: turns["cold"].append(cold()))
    return Figures.of(**turns)


def on_engine(alone: Alone, prompts: PromptFormat, chats: Chats, options: argparse.Namespace) -> Figures:
    """The engine by itself."""

    def second() -> tuple[list[int], int]:
        """A second turn's prompt, and how many of its ids the first turn computed: not the last one it was given."""
        first = prompt_of(prompts, chats.chat(options.history_tokens))
        [track] = alone.answers([first], ANSWER_TOKENS)
        following = prompts.following(None, Message("user", QUESTION), ended=False)
        return [*first, *track.ids, *prompts.encode(following)], len(first) + ANSWER_TOKENS - 1

    def ask(prompt: list[int], known: int) -> Turn:
        before = alone.engine.stats().cached_tokens
        [track] = alone.answers([prompt], NEW_TOKENS)
        if alone.engine.stats().cached_tokens - before != track.cached_tokens:
            raise RuntimeError("the engine's figures and the request's differ")
        return Turn(track.ttft_s, len(prompt), known, track.cached_tokens)

    def warm() -> Turn:
        return ask(*second())

    def cold() -> Turn:
        prompt, _ = second()
        return ask([prompt[-1], *prompt[1:]], 0)

    return paired(options.pairs, warm, cold)


def over_path(url: str, chats: Chats, cold_tokens: int, options: argparse.Namespace) -> Figures:
    """A kept conversation; `cold_tokens` is how long its second prompt is."""

    def ask(tokens: int, **fields: object) -> Stream:
        [stream] = run(streamed(url, [fields], [tokens]))
        return stream

    def turn(stream: Stream, known: int) -> Turn:
        return Turn(stream.ttft_s, stream.usage["prompt_tokens"], known, stream.usage["cached_tokens"])

    def warm() -> Turn:
        first = ask(ANSWER_TOKENS, messages=chats.chat(options.history_tokens), conversation="new")
        second = ask(NEW_TOKENS, messages=None, conversation=first.conversation, message=QUESTION)
        return turn(second, first.usage["prompt_tokens"] + ANSWER_TOKENS - 1)

    def cold() -> Turn:
        return turn(ask(NEW_TOKENS, messages=chats.chat(cold_tokens)), 0)

    return paired(options.pairs, warm, cold)


LINE = "{:>7} {:>9} {:>9} {:>7} {:>14} {:>14} {:>15}"


def row(name: str, found: Figures) -> str:
    """A row of the table."""
    return LINE.format(name, *(str(value) for value in astuple(found)))


def parsed() -> argparse.Namespace:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--history-tokens", type=int, default=HISTORY_TOKENS)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    return parser.parse_args()


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Figures]:
    """Both ways, one after the other; the engine by itself has ended before the worker computes."""
    settings = chosen(options, 8 * (options.history_tokens + 1000))
    runtime = model.load(load_settings(**settings))
    chats = Chats(runtime.prompts)
    print(f"{options.model}, {options.dtype}, {options.device}: {options.history_tokens} tokens of history")
    print(LINE.format("", "warm ms", "cold ms", "ratio", "prompt tokens", "cached tokens", "cached is true"))
    with closing(Alone(runtime.engine)) as alone:
        figures = {"engine": on_engine(alone, runtime.prompts, chats, options)}
    print(row("engine", figures["engine"]), flush=True)
    with (
        running_valkey(folder) as store,
        processes(load_settings(redis_url=store.url, key_prefix="bench"), folder) as fleet,
    ):
        fleet.worker(**environment(settings))
        figures["path"] = over_path(fleet.api().socket, chats, figures["engine"].prompt_tokens, options)
    print(row("path", figures["path"]), flush=True)
    return figures


def main() -> None:
    """Run once and report."""
    options = parsed()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(options, Path(folder))
    missed = [f"{name}_ratio" for name, found in figures.items() if found.ratio > ASKED_RATIO]
    missed += [f"{name}_cached_tokens" for name, found in figures.items() if not found.cached_is_true]
    found = {name: asdict(one) for name, one in figures.items()}
    report({"benchmark": "prefix", **vars(options), "asked_ratio": ASKED_RATIO, **found}, missed)


if __name__ == "__main__":
    main()
