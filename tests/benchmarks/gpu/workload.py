"""The workload behind the figures of docs/performance.md: a Llama-2-7B with random weights, and seeded requests."""

import argparse
import random
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

LLAMA_2_7B = LlamaConfig(
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    vocab_size=32000,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
)


# For a try of the benchmarks themselves, in a minute on a CPU.
TINY = LlamaConfig(
    **LLAMA_2_7B.to_dict()
    | {"hidden_size": 64, "intermediate_size": 176, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
)


@dataclass(frozen=True, slots=True)
class Size:
    """Which model, and how many layers of it; fewer, or the tiny one, for a try."""

    layers: int = LLAMA_2_7B.num_hidden_layers
    tiny: bool = False

    @property
    def config(self) -> LlamaConfig:
        """Of the model of this size."""
        chosen = TINY if self.tiny else LLAMA_2_7B
        return LlamaConfig(**chosen.to_dict() | {"num_hidden_layers": self.layers})

    @classmethod
    def of(cls, options: argparse.Namespace) -> "Size":
        """What `add_size` found."""
        return cls(options.layers, options.tiny)


def add_size(parser: argparse.ArgumentParser) -> None:
    """The options that choose a model's size."""
    parser.add_argument("--layers", type=int, default=LLAMA_2_7B.num_hidden_layers, help="of the model")
    parser.add_argument("--tiny", action="store_true", help="a model of 64 numbers a row, to try the benchmark itself")


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and how many ids to generate; end ids are ignored."""

    prompt: list[int]
    answer_tokens: int


def model(device: str, dtype: torch.dtype = torch.bfloat16, size: Size | None = None) -> PreTrainedModel:
    """The model with random weights, made on the device."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            made = LlamaForCausalLM((size or Size()).config)
    finally:
        torch.set_default_dtype(before)
    found: PreTrainedModel = made.train(False).requires_grad_(False)
    return found


def requests(count: int, seed: int = 0) -> list[Request]:
    """Prompts of 64–1,024 and answers of 128–512 ids; a single request has 128 + 256."""
    prompts, answers = ((128, 128), (256, 256)) if count == 1 else ((64, 1024), (128, 512))
    source = random.Random(seed)
    made = []
    for _ in range(count):
        prompt = [source.randint(10, 31999) for _ in range(source.randint(*prompts))]
        made.append(Request(prompt, source.randint(*answers)))
    return made
