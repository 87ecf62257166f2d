"""What it costs to turn one id into text: `python -m tests.benchmarks.bench_detokenizer`.

Both kinds of tokenizer: the small ones of the tests, the default model's where it is fetched already, and Llama 2's
where the optional test data is here. Each run pushes the same ids from the start, id by id, as a worker does.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median

from tokenizers import Tokenizer

from ekiden.settings import load_settings
from ekiden_worker.text import AnswerText, Detokenizer, Vocabulary
from tests.benchmarks.common import report
from tests.support.data import DATA
from tests.support.tokenizers import byte_level_tokenizer, sentencepiece_tokenizer

ASKED_US_PER_TOKEN = 2.0
RUNS = 15
TEXT = Path(__file__).parents[2] / "LICENSE"
OTHER_SCRIPTS = "駅伝は、襷をつなぐ競走です。🏃‍♀️ Ça va très bien, merci! Спасибо большое.\n" * 100
FOUR_STOPS = ("\n\nUser:", "###", "</answer>", "Human: ")
PAIRS = (("License", "Licence"), ("you", "thee"), ("the ", "ye "), ("competition", "relay"), ("駅伝", "ekiden"))


@dataclass(frozen=True, slots=True)
class Figures:
    """Microseconds a token: the detokenizer alone, then whole records. Long stop sequences begin as the text does."""

    detokenizer_us: float
    no_stops_us: float
    four_stops_us: float
    sixteen_long_stops_us: float
    replacements_us: float
    stops_and_replacements_us: float


def tokenizers() -> Iterator[tuple[str, Tokenizer]]:
    """Those that are here."""
    yield "small byte-level", byte_level_tokenizer()
    yield "small SentencePiece", sentencepiece_tokenizer()
    for converted in sorted((load_settings().cache_dir / "converted").glob("*/tokenizer.json")):
        yield converted.parent.name.partition(".")[0], Tokenizer.from_file(str(converted))
    llama2 = DATA / "llama2" / "tokenizer.json"
    if llama2.exists():
        yield "Llama-2", Tokenizer.from_file(str(llama2))


def long_stops(text: str) -> tuple[str, ...]:
    """16 sequences of 256 characters that the text begins again and again, and never completes."""
    return tuple(text[start : start + 255] + "\0" for start in range(0, 16 * 97, 97))


def us_per_token(push_of: Callable[[], Callable[[int], str]], ids: list[int]) -> float:
    """The median over the runs; each makes what it pushes to anew."""

    def run_s() -> float:
        push = push_of()
        started = time.perf_counter()
        for token_id in ids:
            push(token_id)
        return time.perf_counter() - started

    return round(1e6 / len(ids) * median(run_s() for _ in range(RUNS)), 3)


def measure(vocabulary: Vocabulary, ids: list[int], text: str) -> Figures:
    """All ways to push the same ids."""
    long = long_stops(text)
    return Figures(
        detokenizer_us=us_per_token(lambda: Detokenizer(vocabulary).push, ids),
        no_stops_us=us_per_token(lambda: AnswerText(vocabulary).push, ids),
        four_stops_us=us_per_token(lambda: AnswerText(vocabulary, FOUR_STOPS).push, ids),
        sixteen_long_stops_us=us_per_token(lambda: AnswerText(vocabulary, long).push, ids),
        replacements_us=us_per_token(lambda: AnswerText(vocabulary, (), PAIRS).push, ids),
        stops_and_replacements_us=us_per_token(lambda: AnswerText(vocabulary, long, PAIRS).push, ids),
    )


LINE = "{:>22} {:>14} {:>7} {:>7} {:>9} {:>8} {:>9} {:>8} {:>6}"


def main() -> None:
    figures: dict[str, Figures] = {}
    print(LINE.format("µs a token", "text", "tokens", "detok.", "no stops", "4 stops", "16 long", "replace", "all"))
    for name, tokenizer in tokenizers():
        vocabulary = Vocabulary.of(tokenizer)
        for kind, text in (("licence", TEXT.read_text()), ("other scripts", OTHER_SCRIPTS)):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            figures[f"{name}, {kind}"] = found = measure(vocabulary, ids, text)
            print(LINE.format(name, kind, len(ids), *astuple(found)), flush=True)
    missed = [name for name, found in figures.items() if found.detokenizer_us > ASKED_US_PER_TOKEN]
    cases = {name: asdict(found) for name, found in figures.items()}
    report({"benchmark": "detokenizer", "asked_us_per_token": ASKED_US_PER_TOKEN, "cases": cases}, missed)


if __name__ == "__main__":
    main()
