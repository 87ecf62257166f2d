"""Weights of eight bits: what is kept, and that engines answer as a model whose weights were rounded in this way."""

import weakref
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from ekiden_worker.engine.decoder import Decoder
from ekiden_worker.engine.interface import SamplingParams
from ekiden_worker.engine.linears import PackedLinear, pack_linears
from ekiden_worker.engine.quantized import (
    KINDS,
    QuantizedProduct,
    plain,
    quantize_linears,
    quantized,
    saved_bytes,
)
from ekiden_worker.model import weight_bytes
from tests.unit.engine.conftest import MakeEngine, tiny_model
from tests.unit.engine.greedy import assert_greedy, prompts

CPU = torch.device("cpu")
ROUNDED = {
    "int8": 0.5 / 127,
    "fp8": 2**-4,
}  # half a step: of the largest weight of an output, and of each weight itself


def rounded(model: PreTrainedModel, kind: str) -> PreTrainedModel:
    """The model with weights as they are after quantisation, in their own type."""
    copied = deepcopy(model)
    head = copied.get_output_embeddings()
    for module in copied.modules():
        if type(module) is nn.Linear and module is not head:
            weight, scale = quantized(module.weight, KINDS[kind])
            module.weight = nn.Parameter((weight.float() * scale[:, None]).to(model.dtype), requires_grad=False)
    return copied


def quantized_model(model: PreTrainedModel, kind: str) -> PreTrainedModel:
    copied = deepcopy(model)
    quantize_linears(copied, kind, CPU)
    pack_linears(copied)
    return copied


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_rounded_by_half_a_step_at_most(kind: str) -> None:
    given = torch.randn(50, 300, generator=torch.Generator().manual_seed(1)) * torch.logspace(-4, 2, 50)[:, None]
    given[7] = 0
    weight, scale = quantized(given.bfloat16(), KINDS[kind])
    assert weight.dtype == KINDS[kind]
    given = given.bfloat16().float()
    found = weight.float() * scale[:, None]
    most = given.abs().amax(1, keepdim=True)
    step = most if kind == "int8" else torch.maximum(given.abs(), most / 448 * 2**-6)
    assert ((found - given).abs() <= ROUNDED[kind] * step * 1.001).all()
    torch.testing.assert_close(found.abs().amax(1, keepdim=True), most)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.bfloat16, 5e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("size", [40, 64, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_product(kind: str, dtype: torch.dtype, near: float, count: int, size: int, biased: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    rows = (torch.randn(count, size, generator=generator) * 100).to(dtype)
    weight, scale = quantized(torch.randn(48, size, generator=generator) / 10, KINDS[kind])
    bias = torch.randn(48, generator=generator).to(dtype) if biased else None
    wide = weight.float().double() * scale.double()[:, None]
    expected = F.linear(rows.double(), wide, None if bias is None else bias.double())
    found = plain(rows, weight, scale, bias)
    assert found.dtype == dtype
    assert (found.double() - expected).norm() / expected.norm() < near


@pytest.mark.parametrize("model_kind", ["llama", "qwen3", "gptneox", "deepseek"])
@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_are_those_of_the_rounded_model(make_engine: MakeEngine, model_kind: str, kind: str) -> None:
    model = tiny_model(model_kind)
    cases = prompts(5)
    engine = make_engine(quantized_model(model, kind), max_batched_tokens=64)
    assert isinstance(engine.engine._runner._forward, Decoder) == (model_kind in ("llama", "qwen3"))
    expected = rounded(model, kind)
    for prompt, answer in zip(cases, engine.run(cases, SamplingParams(max_tokens=16)), strict=True):
        assert_greedy(expected, prompt, answer)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_narrow_weights_stay(kind: str) -> None:
    model = deepcopy(tiny_model("llama")).bfloat16()
    before, saved = weight_bytes(model), saved_bytes(model)
    layers = [weakref.ref(m) for m in model.modules() if type(m) is nn.Linear and m is not model.lm_head]
    weights = [weakref.ref(layer.weight) for layer in model.modules() if type(layer) is nn.Linear]
    quantize_linears(model, kind, CPU)
    assert [ref() for ref in layers] == [None] * len(layers)
    assert sum(ref() is not None for ref in weights) == 1
    products = {m.product for m in model.modules() if isinstance(m, PackedLinear)}
    assert len(products) == 3 * 4, "queries, keys and values are one product, gates and ups another"
    kept = 0
    for product in products:
        assert isinstance(product, QuantizedProduct)
        assert product._weight.dtype == KINDS[kind]
        assert product._scale.dtype == torch.float32
        kept += product._weight.nbytes + product._scale.nbytes
    assert weight_bytes(model) + kept == before - saved


def test_the_layer_that_makes_logits_stays_as_it_is() -> None:
    model = deepcopy(tiny_model("llama"))
    quantize_linears(model, "int8", CPU)
    assert type(model.lm_head) is nn.Linear


def test_a_model_without_linear_layers_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="GPT2LMHeadModel has no plain linear layers"):
        quantize_linears(model, "int8", CPU)
