"""Packed layers compute what the layers they stand for did."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ekiden_worker.engine.interface import SamplingParams
from ekiden_worker.engine.packed_linear import PackedLinear, PackedProduct, pack_linears
from tests.unit.engine.conftest import VOCAB, MakeEngine, tiny_model
from tests.unit.engine.test_greedy import assert_greedy, prompts

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="this build of torch has no oneDNN",
)


def packed(model: PreTrainedModel) -> PreTrainedModel:
    copied = deepcopy(model)
    pack_linears(copied)
    return copied


def kinds(model: nn.Module) -> set[type[nn.Module]]:
    return {type(module) for module in model.modules()}


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gptneox"])
def test_greedy_answers_of_a_packed_model_are_those_of_the_model(make_engine: MakeEngine, kind: str) -> None:
    model = tiny_model(kind)
    cases = prompts(8)
    engine = make_engine(packed(model), max_batched_tokens=64)
    for prompt, answer in zip(cases, engine.run(cases, SamplingParams(max_tokens=24)), strict=True):
        assert_greedy(model, prompt, answer)


@torch.inference_mode()
def test_every_layer_is_packed_and_biases_count() -> None:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        mlp_bias=True,
    )
    model = LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.data.normal_()
    copied = packed(model)
    assert PackedLinear in kinds(copied)
    assert nn.Linear not in kinds(copied)
    for rows in (1, 2, 9, 200):
        ids = torch.randint(VOCAB, (1, rows))
        torch.testing.assert_close(copied(ids).logits, model(ids).logits, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_layers_of_one_product_may_be_given_other_rows_in_any_order() -> None:
    linears = [nn.Linear(16, size, bias=False) for size in (8, 12, 20)]
    product = PackedProduct(linears)
    layers = [PackedLinear(product, number, linear) for number, linear in enumerate(linears)]
    one, other = torch.randn(1, 3, 16), torch.randn(1, 5, 16)
    for number, rows in [(0, one), (1, other), (2, one), (2, one), (1, one), (0, other), (2, other)]:
        torch.testing.assert_close(layers[number](rows), linears[number](rows))


def test_another_type_of_numbers_stays_as_it_is() -> None:
    model = deepcopy(tiny_model("llama")).bfloat16()
    pack_linears(model)
    assert PackedLinear not in kinds(model)
