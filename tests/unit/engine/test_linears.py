"""Packed layers compute what the layers they stand for did."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from ekiden_worker.engine.interface import SamplingParams
from ekiden_worker.engine.linears import PackedLinear, PackedProduct, pack_linears, product_of
from tests.unit.engine.conftest import VOCAB, MakeEngine, tiny_model
from tests.unit.engine.greedy import assert_greedy, prompts

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


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this processor has no bfloat16")
@torch.inference_mode()
def test_bfloat16_is_packed_where_the_processor_has_it() -> None:
    model = deepcopy(tiny_model("llama")).bfloat16()
    model.set_attn_implementation("sdpa")
    copied = packed(model)
    assert nn.Linear not in kinds(copied)
    ids = torch.randint(VOCAB, (1, 50))
    expected, found = model(ids).logits.float(), copied(ids).logits.float()
    assert (found - expected).norm() / expected.norm() < 0.05


def test_another_type_of_numbers_stays_as_it_is() -> None:
    model = deepcopy(tiny_model("llama")).half()
    pack_linears(model)
    assert PackedLinear not in kinds(model)


@torch.inference_mode()
def test_joined_layers_compute_as_before_and_share_one_weight() -> None:
    linears = [nn.Linear(16, size).requires_grad_(False) for size in (8, 12)]
    rows = torch.randn(3, 16)
    expected = torch.cat([linear(rows) for linear in linears], dim=-1)
    product = product_of(*linears)
    assert product is not None
    torch.testing.assert_close(product(rows), expected)
    torch.testing.assert_close(torch.cat([linear(rows) for linear in linears], dim=-1), expected)
    assert linears[0].weight.untyped_storage().data_ptr() == linears[1].weight.untyped_storage().data_ptr()


def test_layers_that_are_not_alike_make_no_product() -> None:
    assert product_of(nn.Linear(4, 4), nn.Linear(4, 4, bias=False)) is None
    assert product_of(nn.Linear(4, 4), nn.Identity()) is None
    linears = [nn.Linear(16, 8, bias=False) for _ in range(2)]
    one = PackedProduct(linears)
    layers = [PackedLinear(one, number, linear) for number, linear in enumerate(linears)]
    assert product_of(*layers) is one
    assert product_of(layers[0]) is None
    assert product_of(layers[0], nn.Linear(16, 8, bias=False)) is None
