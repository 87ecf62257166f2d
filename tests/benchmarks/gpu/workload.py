"""The workload behind the figures of docs/performance.md: a Llama-2-7B with random weights, and seeded requests."""

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


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and how many ids to generate; end ids are ignored."""

    prompt: list[int]
    answer_tokens: int


def model(
    device: str, dtype: torch.dtype = torch.bfloat16, layers: int = LLAMA_2_7B.num_hidden_layers
) -> PreTrainedModel:
    """The model with random weights, made on the device; with fewer layers for a try."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            made = LlamaForCausalLM(LlamaConfig(**LLAMA_2_7B.to_dict() | {"num_hidden_layers": layers}))
    finally:
        torch.set_default_dtype(before)
    return made.eval().requires_grad_(False)


def requests(count: int, seed: int = 0) -> list[Request]:
    """Prompts of 64–1,024 and answers of 128–512 ids; a single request has 128 + 256."""
    prompts, answers = ((128, 128), (256, 256)) if count == 1 else ((64, 1024), (128, 512))
    source = random.Random(seed)
    made = []
    for _ in range(count):
        prompt = [source.randint(10, 31999) for _ in range(source.randint(*prompts))]
        made.append(Request(prompt, source.randint(*answers)))
    return made
