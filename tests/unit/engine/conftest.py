"""Tiny random models, and an engine that is checked for lost blocks after every test."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from tests.support.engine import Collector, checked_engines

VOCAB = 300


@cache
def tiny_model(kind: str) -> PreTrainedModel:
    """A random model in float32, the same in every run."""
    torch.manual_seed(11)
    common = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 3, "max_position_embeddings": 512}
    common |= {"initializer_range": 0.4, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "llama":
        config = LlamaConfig(**common, intermediate_size=96, num_attention_heads=8, num_key_value_heads=2)
        return LlamaForCausalLM(config).eval()
    if kind == "qwen3":
        config = Qwen3Config(
            **common, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=32, pad_token_id=0
        )
        return Qwen3ForCausalLM(config).eval()
    if kind == "deepseek":
        return DeepseekV3ForCausalLM(_latent(common)).eval()
    config = GPTNeoXConfig(**common, intermediate_size=96, num_attention_heads=4, rotary_pct=0.5)
    return GPTNeoXForCausalLM(config).eval()


def _latent(common: dict[str, Any]) -> DeepseekV3Config:
    """Multi-head latent attention: values are smaller than keys."""
    return DeepseekV3Config(
        **common, intermediate_size=96, first_k_dense_replace=3, num_attention_heads=4, num_key_value_heads=4,
        kv_lora_rank=16, q_lora_rank=16, qk_rope_head_dim=16, qk_nope_head_dim=32, v_head_dim=16,
    )  # fmt: skip


MakeEngine = Callable[..., Collector[BatchEngine]]


WAYS: dict[str, dict[str, Any]] = {
    "step by step": {"lookahead": False},
    "ahead": {"lookahead": True},
    "speculating": {"lookahead": True, "speculate": 5},
}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def make_engine(request: pytest.FixtureRequest) -> Iterator[MakeEngine]:
    """Start engines with given sizes; each is stopped and must have all its blocks at the end.

    Every test runs in three ways: the second time a step is begun before the one before it is known, as on a GPU, and
    the third time answers are guessed as well.
    """
    with checked_engines() as start:

        def make(model: PreTrainedModel | None = None, **sizes: int) -> Collector[BatchEngine]:
            return start(BatchEngine(model or tiny_model("llama"), EngineConfig(**(request.param | sizes))))

        yield make
