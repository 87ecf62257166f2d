"""Our forward pass computes what transformers' does, or is not used."""

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaMLP

from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.decoder import Decoder
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.interface import SamplingParams
from tests.unit.engine.conftest import VOCAB, MakeEngine, tiny_model
from tests.unit.engine.greedy import assert_greedy, prompts

SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LONGER = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
LLAMA3 = LONGER | {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}


def llama(**sizes: object) -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES | sizes))


def qwen3() -> PreTrainedModel:
    return Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=32))


MODELS = {
    "llama": llama,
    "one head a key": lambda: llama(num_key_value_heads=8),
    "tied": lambda: llama(tie_word_embeddings=True),
    "biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "llama3": lambda: llama(rope_parameters=LLAMA3),
    "linear": lambda: llama(rope_parameters=LONGER | {"rope_type": "linear"}),
    "yarn": lambda: llama(rope_parameters=LONGER | {"rope_type": "yarn"}),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": qwen3,
}


def made(kind: str) -> PreTrainedModel:
    """A random model with no parameter left at a value that hides it."""
    torch.manual_seed(7)
    model = MODELS[kind]().eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            parameter.normal_(mean=0.5, std=0.3)
    return model


def forward_of(engine: BatchEngine) -> object:
    return engine._runner._forward


@pytest.mark.parametrize("kind", MODELS)
def test_models_of_llamas_shape_have_our_forward_pass(make_engine: MakeEngine, kind: str) -> None:
    model = made(kind)
    engine = make_engine(model, max_batched_tokens=50)
    assert isinstance(forward_of(engine.engine), Decoder)
    cases = prompts(6)
    answers = engine.run(cases, SamplingParams(max_tokens=16))
    for prompt, answer in zip(cases, answers, strict=True):
        assert_greedy(model, prompt, answer)


def test_a_vocabulary_smaller_than_a_block(make_engine: MakeEngine) -> None:
    model = llama(vocab_size=20).eval()
    engine = make_engine(model, block_size=32)
    assert isinstance(forward_of(engine.engine), Decoder)
    [answer] = engine.run([[5, 19]], SamplingParams(max_tokens=8))
    assert_greedy(model, [5, 19], answer)


@pytest.mark.parametrize(
    "model",
    [
        lambda: tiny_model("gptneox"),
        lambda: llama(hidden_act="gelu"),
        lambda: llama(rope_parameters=LONGER | {"rope_type": "dynamic"}),
    ],
    ids=["gptneox", "gelu", "dynamic"],
)
def test_others_have_that_of_transformers(make_engine: MakeEngine, model: object) -> None:
    made = model().eval().requires_grad_(False)  # type: ignore[operator]
    engine = make_engine(made)
    assert not isinstance(forward_of(engine.engine), Decoder)
    cases = prompts(3)
    for prompt, answer in zip(cases, engine.run(cases, SamplingParams(max_tokens=8)), strict=True):
        assert_greedy(made, prompt, answer)


def test_a_model_that_computes_something_else_keeps_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda mlp, rows: 1.1 * forward(mlp, rows))
    assert not isinstance(forward_of(BatchEngine(made("llama"), EngineConfig())), Decoder)
