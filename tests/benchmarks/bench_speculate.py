"""An engine that guesses what answers repeat (`--speculate ngram`) against the same engine without, side by side.

Run it with `python -m tests.benchmarks.bench_speculate`. Three kinds of prompts: to repeat a text, to edit code, and to
say something new. Both sides have their own copy of the model and the same prompts, whose beginnings they have cached
but for the first round, which is not counted: what is measured is how long answers take from there on. Those that are
guessed well end sooner than the others beside them, so it is the mean time of an answer. In float32 the answers must be
the same ids.
"""

import inspect
import shutil
import textwrap
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from heapq import merge, nsmallest
from pathlib import Path
from statistics import mean, median, median_low, mode, multimode

from ekiden.protocol import Message
from ekiden.settings import load_settings
from ekiden_worker import model
from ekiden_worker.prompts import PromptFormat
from tests.benchmarks.common import Paired, report
from tests.benchmarks.real_model import Alone, chosen, parser_of

ASKED_RATIO = 1.3  # for one request that repeats a text
ASKED_OTHERWISE = 0.95  # for whatever else is asked
NEW_TOKENS, PAIRS, REQUESTS = 96, 3, (1, 8)
LEAST_CHARACTERS = 400  # of a text to repeat: more than an answer has
LICENSE = Path(__file__).parents[2] / "LICENSE"
CODE: tuple[Callable[..., object], ...] = (
    nsmallest, merge, median_low, mode, multimode, textwrap.indent, textwrap.shorten, shutil.copyfileobj,
)  # fmt: skip
SUBJECTS = (
    "a fox that crosses a river", "how a ship sails against the wind", "the plan of a small garden", "a week at sea",
    "why the sky is blue", "the life of a baker", "how to learn to swim", "the first train of a village",
)  # fmt: skip

Prompts = list[list[int]]


def prompts_of(form: PromptFormat) -> dict[str, Prompts]:
    """Eight prompts of each kind."""
    paragraphs = [" ".join(part.split()) for part in LICENSE.read_text().split("\n\n")]
    texts = [part for part in paragraphs if len(part) > LEAST_CHARACTERS][: len(CODE)]
    rename = "Print this Python code again, with short comments added, and everything else as it is:\n\n```python\n"
    asked = {
        "repeat a text": [
            f"Repeat the following text word for word, and say nothing else.\n\n{text}" for text in texts
        ],
        "edit code": [f"{rename}{textwrap.dedent(inspect.getsource(code))}```" for code in CODE],
        "say something new": [f"Tell me about {subject}." for subject in SUBJECTS],
    }
    return {
        kind: [list(form.encode(form.parts([Message("user", text)]))) for text in of_kind]
        for kind, of_kind in asked.items()
    }


@dataclass(frozen=True, slots=True)
class Figures:
    """What one case gave. Rates are those of one answer, by the mean time an answer takes from its request to its end.

    `accepted`: the share of proposed ids that were right; `a_step`: ids that an answer got of a step.
    """

    tokens_per_s: float
    off_tokens_per_s: float
    ratio: float
    proposed: int
    accepted: float
    a_step: float
    equal_answers: int


def measure(prompts: Prompts, guessing: Alone, plain: Alone, new_tokens: int) -> Figures:
    """Run one case."""
    found = [track.ids for track in guessing.answers(prompts, new_tokens)]
    expected = [track.ids for track in plain.answers(prompts, new_tokens)]
    before = guessing.engine.stats()
    paired = Paired([], [])
    for number in range(PAIRS):
        sides = [(guessing, paired.ours_s), (plain, paired.theirs_s)]
        for side, times_s in sides if number % 2 == 0 else reversed(sides):
            tracks = side.answers(prompts, new_tokens)
            times_s.append(mean(track.times_s[-1] - track.asked_s for track in tracks))
    after = guessing.engine.stats()
    proposed = after.proposed_tokens - before.proposed_tokens
    accepted = after.accepted_tokens - before.accepted_tokens
    tokens = len(prompts) * new_tokens
    return Figures(
        tokens_per_s=round(new_tokens / median(paired.ours_s), 1),
        off_tokens_per_s=round(new_tokens / median(paired.theirs_s), 1),
        ratio=round(paired.ratio, 3),
        proposed=proposed // PAIRS,
        accepted=round(accepted / max(1, proposed), 2),
        a_step=round(tokens / (tokens - accepted / PAIRS), 2),
        equal_answers=sum(a == b for a, b in zip(found, expected, strict=True)),
    )


LINE = "{:>24} {:>8} {:>8} {:>7} {:>9} {:>9} {:>8} {:>6}"
HEAD = ("case", "tok/s", "without", "ratio", "proposed", "accepted", "a step", "equal")


def main() -> None:
    """Run once and report."""
    parser = parser_of(__doc__)
    parser.add_argument("--new-tokens", type=int, default=NEW_TOKENS)
    parser.add_argument("--requests", default=",".join(map(str, REQUESTS)), help="comma separated, up to 8")
    options = parser.parse_args()
    settings = chosen(options, 8 * (options.new_tokens + 1000))
    guessing = model.load(load_settings(**settings, speculate="ngram"))
    plain = model.load(load_settings(**settings))
    figures: dict[str, Figures] = {}
    print(f"{options.model}, {options.dtype}, {options.device}; answers of {options.new_tokens} tokens")
    print(LINE.format(*HEAD))
    with closing(Alone(guessing.engine)) as ours, closing(Alone(plain.engine)) as theirs:
        for requests in map(int, options.requests.split(",")):
            for kind, prompts in prompts_of(guessing.prompts).items():
                case = f"{requests} x {kind}"
                figures[case] = found = measure(prompts[:requests], ours, theirs, options.new_tokens)
                print(LINE.format(case, *(str(value) for value in astuple(found))), flush=True)
    missed = [case for case, found in figures.items() if found.ratio < asked_of(case)]
    missed += ["equal_answers"] if options.dtype == "float32" and not _equal(figures) else []
    cases = {case: asdict(found) for case, found in figures.items()}
    report({"benchmark": "speculate", **vars(options), "cases": cases}, missed)


def asked_of(case: str) -> float:
    """How many times as fast the case must be."""
    return ASKED_RATIO if case == "1 x repeat a text" else ASKED_OTHERWISE


def _equal(figures: dict[str, Figures]) -> bool:
    return all(found.equal_answers == int(case.split()[0]) for case, found in figures.items())


if __name__ == "__main__":
    main()
