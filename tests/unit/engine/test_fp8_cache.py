"""A KV cache of eight bits: answers are those of attention over rounded keys and values, however they came about."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from transformers import AttentionInterface, PreTrainedModel

from ekiden_worker.engine.fp8 import FP8, from_fp8, lacking, to_fp8
from ekiden_worker.engine.interface import SamplingParams
from tests.unit.engine.conftest import MakeEngine, tiny_model
from tests.unit.engine.greedy import prompts

GREEDY = SamplingParams(max_tokens=16)
# What one number less or more in the last place of a few keys changes; rounding differs where sums do.
TIE = 0.01


def over_rounded(
    module: object,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """transformers' attention over keys and values as the cache keeps them."""
    kept = (to_fp8(numbers).to(query.dtype) for numbers in (key, value))
    found = F.scaled_dot_product_attention(query, *kept, is_causal=True, scale=scaling, enable_gqa=True)
    return found.transpose(1, 2), None


AttentionInterface.register("over_rounded", over_rounded)


@torch.inference_mode()
def assert_greedy(model: PreTrainedModel, prompt: list[int], answer: list[int]) -> None:
    model.set_attn_implementation("over_rounded")
    logits = model(torch.tensor([prompt + answer], device=model.device)).logits[0, len(prompt) - 1 : -1]
    model.set_attn_implementation("ekiden_paged")
    for position, token in enumerate(answer):
        assert logits[position].max() - logits[position, token] <= TIE, f"id {position} of {answer}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_number_is_widened_exactly(dtype: torch.dtype) -> None:
    every = torch.arange(256, dtype=torch.uint8).view(FP8)
    real = ~every.float().isnan()
    assert real.sum() == 254
    found = from_fp8(every, dtype)
    assert found.dtype == dtype
    assert torch.equal(found[real], every.to(dtype)[real])


def test_what_is_too_large_becomes_the_largest() -> None:
    given = torch.tensor([500.0, -1e30, torch.inf, 448.0, 447.0, 0.0])
    assert to_fp8(given).float().tolist() == [448.0, -448.0, 448.0, 448.0, 448.0, 0.0]


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gptneox", "deepseek"])
def test_answers(make_engine: MakeEngine, kind: str) -> None:
    model = tiny_model(kind)
    cases = prompts(6, longest=60)
    for prompt, answer in zip(cases, make_engine(model, kv_cache_dtype="fp8").run(cases, GREEDY), strict=True):
        assert_greedy(model, prompt, answer)


def test_alone_together_in_chunks_and_preempted(make_engine: MakeEngine) -> None:
    model = tiny_model("llama")
    cases = prompts(10, longest=60)
    together = make_engine(kv_cache_dtype="fp8").run(cases, GREEDY)
    alone = make_engine(kv_cache_dtype="fp8")
    assert [alone.run([prompt], GREEDY)[0] for prompt in cases] == together
    assert make_engine(kv_cache_dtype="fp8", max_batched_tokens=7).run(cases, GREEDY) == together
    tight = make_engine(kv_cache_dtype="fp8", kv_cache_tokens=96, block_size=8, max_running=8, context_tokens=96)
    assert tight.run(cases, GREEDY) == together
    assert tight.engine.stats().preemptions > 0
    for prompt, answer in zip(cases, together, strict=True):
        assert_greedy(model, prompt, answer)


def test_the_same_memory_holds_more(make_engine: MakeEngine) -> None:
    fp8, plain = make_engine(kv_cache_dtype="fp8").engine, make_engine().engine
    assert fp8.stats().total_blocks == pytest.approx(4 * plain.stats().total_blocks, abs=4)
    assert {keys.dtype for keys in fp8._runner._cache.keys} == {FP8}


@pytest.mark.parametrize(("capability", "known"), [((8, 0), False), ((8, 6), False), ((8, 9), True), ((9, 0), True)])
def test_gpus_without_fp8_are_named(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], known: bool) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Some GPU")
    reason = lacking(torch.device("cuda"))
    assert (reason is None) == known
    assert known or "Some GPU has no numbers of fp8" in str(reason)
    assert lacking(torch.device("cpu")) is None
