"""How long running answers stand still while a long prompt is computed, chunk by chunk.

Some answers run when a prompt of 2,000 tokens arrives. The longest time between two tokens of one of them, from then to
the prompt's first token, is compared with a step that computes a chunk: the time of such a prompt alone through the
number of its steps. Asked: every step in that time gives each answer a token, so that none waits for more than one
chunk, and no gap is longer than `ASKED_CHUNKS` steps. That bound is above 1 because the last chunks look back on more
than the mean one and the answers' own tokens are computed with them; two chunks at once would be 2.
"""

from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from statistics import median

from ekiden.settings import load_settings
from ekiden_worker import model
from ekiden_worker.prompts import PromptFormat
from tests.benchmarks.chats import Chats, prompt_of
from tests.benchmarks.common import report
from tests.benchmarks.real_model import Alone, Track, chosen, parser_of

PROMPT_TOKENS = 2000
RUNNING, RUNNING_PROMPT_TOKENS = 4, 40
BEFORE, AFTER = 12, 4  # ids of a running answer before the prompt comes and after it is computed
ROUNDS = 5
ASKED_CHUNKS = 1.5


@dataclass(frozen=True, slots=True)
class Round:
    """One arrival: the longest gap and the most steps between two ids of an answer, and what they are compared with."""

    gap_s: float
    steps: int
    usual_gap_s: float
    chunk_s: float
    chunks: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians over the rounds, and the worst of them; gaps in steps that compute a chunk are those of each round."""

    usual_gap_ms: float
    chunk_ms: float
    chunks: int
    gap_ms: float
    gap_worst_ms: float
    gap_in_chunks: float
    gap_in_chunks_worst: float
    most_steps: int

    @classmethod
    def of(cls, rounds: list[Round]) -> "Figures":
        in_chunks = [one.gap_s / one.chunk_s for one in rounds]
        return cls(
            usual_gap_ms=round(median(one.usual_gap_s for one in rounds) * 1e3, 1),
            chunk_ms=round(median(one.chunk_s for one in rounds) * 1e3, 1),
            chunks=max(one.chunks for one in rounds),
            gap_ms=round(median(one.gap_s for one in rounds) * 1e3, 1),
            gap_worst_ms=round(max(one.gap_s for one in rounds) * 1e3, 1),
            gap_in_chunks=round(median(in_chunks), 2),
            gap_in_chunks_worst=round(max(in_chunks), 2),
            most_steps=max(one.steps for one in rounds),
        )


class Stall:
    """Rounds on one engine, each with prompts that it has not seen."""

    def __init__(self, alone: Alone, prompts: PromptFormat, chats: Chats, prompt_tokens: int) -> None:
        self._alone = alone
        self._prompts = prompts
        self._chats = chats
        self._prompt_tokens = prompt_tokens

    def round(self) -> Round:
        """The prompt alone, then another one while answers run."""
        before = self._alone.engine.stats().steps
        [alone] = self._alone.answers([self._prompt(self._prompt_tokens)], 1)
        chunks = alone.steps[0] - before
        length = BEFORE + 2 * chunks + AFTER
        running = [self._alone.ask(self._prompt(RUNNING_PROMPT_TOKENS), length) for _ in range(RUNNING)]
        self._alone.wait(lambda: all(len(track.ids) >= BEFORE for track in running))
        arrived = self._alone.ask(self._prompt(self._prompt_tokens), 1)
        self._alone.wait(lambda: all(track.finish for track in (*running, arrived)))
        if min(track.times_s[-1] for track in running) <= arrived.times_s[0]:
            raise RuntimeError("an answer ended before the prompt was computed")
        return compared(running, arrived, alone.ttft_s / chunks, chunks)

    def _prompt(self, tokens: int) -> list[int]:
        return prompt_of(self._prompts, self._chats.chat(tokens))


def compared(running: list[Track], arrived: Track, chunk_s: float, chunks: int) -> Round:
    """The gaps that end while the prompt is computed, and those before."""
    usual: list[float] = []
    gaps: list[float] = []
    steps: list[int] = []
    for track in running:
        for (begin_s, step), (end_s, next_step) in pairwise(zip(track.times_s, track.steps, strict=True)):
            if end_s <= arrived.asked_s:
                usual.append(end_s - begin_s)
            elif end_s <= arrived.times_s[0]:
                gaps.append(end_s - begin_s)
                steps.append(next_step - step)
    return Round(max(gaps), max(steps), median(usual), chunk_s, chunks)


LINE = "{:>12} {:>9} {:>7} {:>11} {:>9} {:>14} {:>9} {:>11}"
HEAD = ("usual gap ms", "chunk ms", "chunks", "longest ms", "worst ms", "longest/chunk", "worst", "most steps")


def main() -> None:
    """Run once and report."""
    parser = parser_of(__doc__)
    parser.add_argument("--prompt-tokens", type=int, default=PROMPT_TOKENS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    settings = chosen(options, 8 * (options.prompt_tokens + 1000))
    runtime = model.load(load_settings(**settings))
    with closing(Alone(runtime.engine)) as alone:
        stall = Stall(alone, runtime.prompts, Chats(runtime.prompts), options.prompt_tokens)
        stall.round()
        found = Figures.of([stall.round() for _ in range(options.rounds)])
    print(f"{options.model}, {options.dtype}, {options.device}: {RUNNING} answers, a prompt of {options.prompt_tokens}")
    print(LINE.format(*HEAD))
    print(LINE.format(*(str(value) for value in astuple(found))))
    missed = [] if found.most_steps == 1 else ["most_steps"]
    missed += [] if found.gap_in_chunks <= ASKED_CHUNKS else ["gap_in_chunks"]
    missed += [] if found.chunks > 1 else ["chunks"]  # a prompt that is one chunk shows nothing
    report({"benchmark": "stall", **vars(options), "asked_chunks": ASKED_CHUNKS, **asdict(found)}, missed)


if __name__ == "__main__":
    main()
