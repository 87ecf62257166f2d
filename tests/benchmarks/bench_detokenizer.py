"""What it costs to turn one id into text: `python -m tests.benchmarks.bench_detokenizer`.

Real tokenizers, real text: the default model's, and Llama 2's where the optional test data is here. Each run decodes
the same ids from the start, id by id, as a worker does.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import median

from tokenizers import Tokenizer

from ekiden.settings import load_settings
from ekiden_worker.model import load_model
from ekiden_worker.text import AnswerText, Detokenizer, Vocabulary
from tests.benchmarks.common import report
from tests.support.data import DATA

ASKED_US_PER_TOKEN = 2.0
RUNS = 15
STOPS = ("\n\nUser:", "###")
TEXT = Path(__file__).parents[2] / "LICENSE"
OTHER_SCRIPTS = "駅伝は、襷をつなぐ競走です。🏃‍♀️ Ça va très bien, merci! Спасибо большое.\n" * 100


@dataclass(frozen=True, slots=True)
class Figures:
    """Microseconds a token: the detokenizer alone, and with the search for stop sequences."""

    detokenizer_us: float
    with_stops_us: float


def tokenizers() -> Iterator[tuple[str, Tokenizer]]:
    settings = load_settings()
    yield settings.model_name, load_model(settings)[1].backend_tokenizer
    llama2 = DATA / "llama2" / "tokenizer.json"
    if llama2.exists():
        yield "Llama-2", Tokenizer.from_file(str(llama2))


def detokenize_s(vocabulary: Vocabulary, ids: list[int]) -> float:
    """Seconds to push all ids."""
    detokenizer = Detokenizer(vocabulary)
    started = time.perf_counter()
    for token_id in ids:
        detokenizer.push(token_id)
    return time.perf_counter() - started


def answer_s(vocabulary: Vocabulary, ids: list[int]) -> float:
    """Seconds to push all ids while stop sequences are looked for."""
    answer = AnswerText(vocabulary, STOPS)
    started = time.perf_counter()
    for token_id in ids:
        answer.push(token_id)
    return time.perf_counter() - started


def measure(vocabulary: Vocabulary, ids: list[int]) -> Figures:
    """Medians over the runs."""
    per_token = 1e6 / len(ids)
    return Figures(
        detokenizer_us=round(per_token * median(detokenize_s(vocabulary, ids) for _ in range(RUNS)), 3),
        with_stops_us=round(per_token * median(answer_s(vocabulary, ids) for _ in range(RUNS)), 3),
    )


LINE = "{:>24} {:>18} {:>8} {:>12} {:>12}"


def main() -> None:
    figures: dict[str, Figures] = {}
    print(LINE.format("tokenizer", "text", "tokens", "us a token", "with stops"))
    for model, tokenizer in tokenizers():
        vocabulary = Vocabulary.of(tokenizer)
        for kind, text in (("licence", TEXT.read_text()), ("other scripts", OTHER_SCRIPTS)):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            figures[f"{model}, {kind}"] = found = measure(vocabulary, ids)
            print(LINE.format(model, kind, len(ids), *astuple(found)), flush=True)
    missed = [name for name, found in figures.items() if found.detokenizer_us > ASKED_US_PER_TOKEN]
    cases = {name: asdict(found) for name, found in figures.items()}
    report({"benchmark": "detokenizer", "asked_us_per_token": ASKED_US_PER_TOKEN, "cases": cases}, missed)


if __name__ == "__main__":
    main()
