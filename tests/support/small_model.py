"""A small random model that every engine can run, and where vLLM can be tested."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from tests.support.tokenizers import byte_level_tokenizer

VOCAB = 300


def small_model(vocab_size: int = VOCAB) -> PreTrainedModel:
    """The same in every run, in float32; its heads are of a size that every kernel takes."""
    torch.manual_seed(11)
    sizes: dict[str, Any] = {"vocab_size": vocab_size, "hidden_size": 128, "intermediate_size": 96}
    sizes |= {
        "max_position_embeddings": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    model = LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.3, bos_token_id=1, eos_token_id=2))
    model.train(False)
    return model


def write_small_model(folder: Path) -> PreTrainedModel:
    """Write it with a tokenizer, as models are published; returns it."""
    tokenizer = byte_level_tokenizer()
    model = small_model(tokenizer.get_vocab_size())
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>").save_pretrained(folder)
    return model


def vllm_marks() -> list[pytest.MarkDecorator]:
    """For a test that needs vLLM; it and what it imports warn of much."""
    if importlib.util.find_spec("vllm") is None:
        return [pytest.mark.skip(reason="vLLM is not installed (the extra vllm)")]
    return [pytest.mark.filterwarnings("ignore")]
