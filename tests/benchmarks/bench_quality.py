"""What smaller numbers cost in quality: bfloat16, a KV cache in fp8, weights in int8 and fp8, on the default model.

Run it with `python -m tests.benchmarks.bench_quality`. The reference is the model in float32. For each kind of numbers:

- perplexity of the text of the LICENSE, and of the reference's own greedy answers to 50 prompts;
- agreement: at how many ids of these answers the likeliest id is the one that the reference chose, given the same ids
  before it;
- same: how many ids an answer of the engine's own has in common with the reference's before the first other one.

The forward pass and the attention are the engine's. "and rows" rounds what comes into a layer to fp8 as well, as a GPU
does in steps with many rows.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from transformers import PreTrainedModel

from ekiden.protocol import Message
from ekiden.settings import Settings, load_settings
from ekiden_worker.engine.batch import Batch
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.decoder import Decoder
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.fp8 import FP8, LARGEST, to_fp8
from ekiden_worker.engine.interface import EngineRequest, SamplingParams
from ekiden_worker.engine.kv_cache import KVCache
from ekiden_worker.engine.linears import pack_linears
from ekiden_worker.engine.model_runner import probe_cache_shapes
from ekiden_worker.engine.operations import TorchOperations
from ekiden_worker.engine.quantized import plain, quantize_linears
from ekiden_worker.engine.scheduler import Chunk
from ekiden_worker.engine.sdpa_attention import SdpaAttention
from ekiden_worker.engine.sequence import Sequence as Tokens
from ekiden_worker.model import load_model
from ekiden_worker.prompts import ModelTokenizer, choose_format
from tests.benchmarks.common import report
from tests.benchmarks.real_model import Alone

LICENSE = Path(__file__).parents[2] / "LICENSE"
WINDOW, WINDOWS = 512, 4  # ids of a piece of the LICENSE, and how many pieces
ANSWER = 64
ASKS = (
    "Tell me a short story about {}.",
    "Explain {} to a child.",
    "Write three facts about {}.",
    "Why do people like {}? Answer in a few sentences.",
    "Write a friendly letter to a friend about {}.",
)
TOPICS = (
    "a lighthouse", "bread", "the moon", "trains", "honey bees", "volcanoes", "a market in spring", "chess", "rivers",
    "whales",
)  # fmt: skip

ASKED_AGREEMENT = 0.9


@dataclass(frozen=True, slots=True)
class Kind:
    """Numbers to compare."""

    dtype: str
    quantization: str = "none"
    kv_cache_dtype: str = "auto"
    narrow_rows: bool = False

    @property
    def name(self) -> str:
        weights = "" if self.quantization == "none" else f", weights {self.quantization}"
        return self.dtype + weights + " and rows" * self.narrow_rows + f", KV {self.kv_cache_dtype}" * self.narrow_cache

    @property
    def narrow_cache(self) -> bool:
        return self.kv_cache_dtype == "fp8"


KINDS = (
    Kind("float32"),
    Kind("bfloat16"),
    Kind("float32", kv_cache_dtype="fp8"),
    Kind("float32", "int8"),
    Kind("float32", "fp8"),
    Kind("bfloat16", "int8"),
    Kind("bfloat16", "int8", "fp8"),
    Kind("bfloat16", "fp8", narrow_rows=True),
    Kind("bfloat16", "fp8", "fp8", narrow_rows=True),
)


def over_narrow_rows(
    rows: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """The product of rows that are rounded to fp8, each with a scale of its own."""
    scales = rows.float().abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST
    return plain((to_fp8(rows / scales).float() * scales).to(rows.dtype), weight, scale, bias)


class Measured:
    """The model in numbers of one kind: its logits on given ids, and the engine's answers."""

    def __init__(self, kind: Kind, settings: Settings) -> None:
        self._kind = kind
        self._model: PreTrainedModel = load_model(settings)[0]
        if kind.quantization != "none":
            compute = over_narrow_rows if kind.narrow_rows else None
            quantize_linears(self._model, kind.quantization, self._model.device, compute)
        pack_linears(self._model)
        self._shapes = probe_cache_shapes(self._model)
        self._forward = Decoder(self._model, WINDOW, TorchOperations())

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> torch.Tensor:
        """[ids, vocab_size], float32, of a sequence up to WINDOW."""
        every = torch.arange(len(ids))
        dtype = self._model.dtype
        kept = FP8 if self._kind.narrow_cache else dtype
        cache = KVCache.of(self._shapes, 2, WINDOW, dtype, self._model.device, kept)
        sequence = Tokens(EngineRequest("text", tuple(ids), SamplingParams(max_tokens=1), frozenset()))
        sequence.block_table = [1]
        attention = SdpaAttention(cache, [Chunk.of(sequence, len(ids))])
        return self._forward(Batch(torch.tensor(ids), every, every, attention)).float()

    def answers(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Greedy, of the engine."""
        config = EngineConfig(kv_cache_dtype="fp8" if self._kind.narrow_cache else "auto")
        with closing(Alone(BatchEngine(self._model, config))) as alone:
            return [track.ids for track in alone.answers(prompts, ANSWER)]


@dataclass(frozen=True, slots=True)
class Figures:
    """Agreement in percent, same in ids."""

    license_perplexity: float
    answers_perplexity: float
    agreement: float
    same: float
    equal_answers: int


def figures(measured: Measured, text: list[list[int]], prompts: list[list[int]], reference: list[list[int]]) -> Figures:
    """Compare with the reference's answers."""
    losses = [_losses(measured.logits(window), window) for window in text]
    on_answers, agree = list[float](), list[bool]()
    for prompt, answer in zip(prompts, reference, strict=True):
        logits = measured.logits([*prompt, *answer])[len(prompt) - 1 :]
        on_answers += F.cross_entropy(logits[:-1], torch.tensor(answer), reduction="none").tolist()
        agree += (logits[:-1].argmax(-1) == torch.tensor(answer)).tolist()
    same = [_same(*pair) for pair in zip(measured.answers(prompts), reference, strict=True)]
    return Figures(
        license_perplexity=round(math.exp(mean(loss for window in losses for loss in window)), 3),
        answers_perplexity=round(math.exp(mean(on_answers)), 3),
        agreement=round(100 * mean(agree), 2),
        same=round(mean(same), 1),
        equal_answers=same.count(ANSWER),
    )


def _losses(logits: torch.Tensor, ids: list[int]) -> list[float]:
    losses: list[float] = F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none").tolist()
    return losses


def _same(answer: list[int], other: list[int]) -> int:
    return next((at for at, pair in enumerate(zip(answer, other, strict=True)) if pair[0] != pair[1]), len(answer))


def prompts_of(tokenizer: ModelTokenizer, settings: Settings) -> Iterator[list[int]]:
    """The 50 prompts, in the model's own format."""
    rules = choose_format(tokenizer, settings)
    for topic in TOPICS:
        for ask in ASKS:
            yield rules.encode(rules.parts([Message("user", ask.format(topic))]))


LINE = "{:<46} {:>10} {:>10} {:>11} {:>6} {:>6}"


def main() -> None:
    settings = load_settings(dtype="float32")
    model, tokenizer = load_model(settings)
    prompts = list(prompts_of(tokenizer, settings))
    ids = tokenizer.raw.encode(LICENSE.read_text(), add_special_tokens=False).ids
    text = [ids[at : at + WINDOW] for at in range(0, WINDOW * WINDOWS, WINDOW)]
    del model
    print(f"{settings.model_name}: {len(prompts)} prompts, answers of {ANSWER} ids, {sum(map(len, text))} ids of text")
    print(LINE.format("numbers", "LICENSE", "answers", "agreement %", "same", "equal"))
    reference: list[list[int]] = []
    found: dict[str, Figures] = {}
    for kind in KINDS:
        measured = Measured(kind, load_settings(dtype=kind.dtype))
        reference = reference or measured.answers(prompts)
        found[kind.name] = figures(measured, text, prompts, reference)
        print(LINE.format(kind.name, *(str(value) for value in astuple(found[kind.name]))), flush=True)
    missed = [name for name, result in found.items() if result.agreement < 100 * ASKED_AGREEMENT]
    kinds = {name: asdict(result) for name, result in found.items()}
    report({"benchmark": "quality", "asked_agreement": ASKED_AGREEMENT, "kinds": kinds}, missed)


if __name__ == "__main__":
    main()
