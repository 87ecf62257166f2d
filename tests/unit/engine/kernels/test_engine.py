"""Engines that compute with the kernels, and with decode steps of fixed shapes, answer as transformers does."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from transformers import PreTrainedModel

pytest.importorskip("triton", reason="Triton is not installed")

from ekiden_worker.engine.chooser import Choices
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.decoder import Decoder
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.fixed_steps import MixedSteps, decode_sizes, mixed_sizes
from ekiden_worker.engine.interface import SamplingParams
from ekiden_worker.engine.kernels import attention
from ekiden_worker.engine.quantized import quantize_linears
from ekiden_worker.engine.scheduler import Chunk
from tests.support.engine import Collector
from tests.unit.engine.conftest import tiny_model
from tests.unit.engine.foretold import foretell
from tests.unit.engine.greedy import assert_greedy, prompts
from tests.unit.engine.kernels import DEVICE
from tests.unit.engine.test_fp8_cache import assert_greedy as assert_greedy_over_rounded
from tests.unit.engine.test_quantized import rounded

Answers = list[list[int]]

CACHE = 2048  # ids: several engines share a GPU here


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter runs them one after the other."""
    monkeypatch.setattr(attention, "_BUSY_PROGRAMS", 16)


def answers(model: PreTrainedModel, config: EngineConfig, cases: list[list[int]], params: SamplingParams) -> Answers:
    """What an engine of this config generates; with kernels its decode steps have fixed shapes."""
    engine = BatchEngine(model, config)
    assert engine._runner.uses_kernels == (bool(config.kernels) and model.config.model_type != "deepseek_v3")
    assert isinstance(engine._runner._forward, Decoder) == (model.config.model_type in ("llama", "qwen3"))
    if engine._runner.uses_kernels and DEVICE.type == "cpu":
        engine._runner.fix_shapes(16, capture=False)  # on a GPU it is captured at start
    collector = Collector(engine)
    engine.start(collector)
    found = collector.run(cases, params)
    engine.stop()
    engine.check_integrity()
    return found


def noted_steps(monkeypatch: pytest.MonkeyPatch) -> list[list[Chunk]]:
    """The mixed steps that are run from now on."""
    steps, run = list[list[Chunk]](), MixedSteps.run

    def noted(mixed: MixedSteps, chunks: list[Chunk], choices: Choices) -> None:
        steps.append(chunks)
        run(mixed, chunks, choices)

    monkeypatch.setattr(MixedSteps, "run", noted)
    return steps


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gptneox", "deepseek"])
def test_greedy_answers(kind: str) -> None:
    model = deepcopy(tiny_model(kind)).to(DEVICE)
    config = EngineConfig(
        kernels=True, lookahead=True, block_size=8, max_batched_tokens=16, max_running=2, kv_cache_tokens=CACHE
    )
    cases = prompts(3, longest=18)
    for prompt, answer in zip(cases, answers(model, config, cases, SamplingParams(max_tokens=3)), strict=True):
        assert_greedy(model, prompt, answer)


def test_sampled_answers_are_those_of_any_other_engine() -> None:
    model = deepcopy(tiny_model("llama")).to(DEVICE)
    params = SamplingParams(max_tokens=2, temperature=0.9, top_p=0.9, repetition_penalty=1.2, seed=5)
    cases = prompts(2, longest=18)
    plain = EngineConfig(kernels=False, lookahead=False, kv_cache_tokens=CACHE)
    kernels = EngineConfig(kernels=True, block_size=8, max_running=2, kv_cache_tokens=CACHE)
    assert answers(model, kernels, cases, params) == answers(model, plain, cases, params)


@pytest.mark.skipif(DEVICE.type == "cpu", reason="the interpreter rounds to eight bits in its own way")
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gptneox"])
@pytest.mark.parametrize("quantization", ["none", "int8", "fp8"])
def test_answers_of_eight_bits(kind: str, quantization: str) -> None:
    model, expected = deepcopy(tiny_model(kind)).to(DEVICE), deepcopy(tiny_model(kind)).to(DEVICE)
    if quantization != "none":
        quantize_linears(model, quantization, DEVICE)
        expected = rounded(expected, quantization)
    config = EngineConfig(kernels=True, kv_cache_dtype="fp8", block_size=8, max_batched_tokens=64, max_running=4)
    cases = prompts(6, longest=60)
    for prompt, answer in zip(cases, answers(model, config, cases, SamplingParams(max_tokens=8)), strict=True):
        assert_greedy_over_rounded(expected, prompt, answer)


def test_guessed_answers_are_those_of_any_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(max_tokens=6, temperature=0.9, seed=3)
    model = deepcopy(tiny_model("llama")).to(DEVICE)
    cases = prompts(2, longest=12)
    expected = answers(model, EngineConfig(kernels=False, lookahead=False, kv_cache_tokens=CACHE), cases, params)
    mixed = noted_steps(monkeypatch)
    config = EngineConfig(
        kernels=True,
        lookahead=True,
        block_size=4,
        max_batched_tokens=16,
        max_running=2,
        speculate=3,
        kv_cache_tokens=CACHE,
    )
    foretell(monkeypatch, cases, expected, wrong=3)
    assert answers(model, config, cases, params) == expected
    assert any(chunk.proposed for chunks in mixed for chunk in chunks), "in steps of fixed shapes"


@pytest.mark.parametrize(
    "broken",
    [
        lambda *args: args[-1].zero_(),
        lambda *args: args[-1].fill_(torch.nan),
        lambda *_args: 1 / 0,  # stands for what a compiler says to a device it does not know
    ],
    ids=["zeros", "nan", "error"],
)
def test_kernels_that_do_not_compute_what_torch_does_are_not_used(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[..., object]
) -> None:
    model = deepcopy(tiny_model("llama")).to(DEVICE)
    monkeypatch.setattr(attention, "decode", broken)
    runner = BatchEngine(model, EngineConfig(kernels=True, eager=True, block_size=4, kv_cache_tokens=CACHE))._runner
    assert not runner.uses_kernels
    assert isinstance(runner._forward, Decoder)


@pytest.mark.parametrize("most", [1, 2, 5, 8, 32, 100])
def test_there_is_a_size_for_every_batch(most: int) -> None:
    sizes = decode_sizes(most)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == most
    for rows in range(9, most + 1):
        assert min(size for size in sizes if size >= rows) - rows < 8


@pytest.mark.parametrize("proposing", [False, True])
@pytest.mark.parametrize("most", [1, 16, 64, 100, 256, 1000, 2560])
def test_there_is_a_size_for_every_step(most: int, proposing: bool) -> None:
    sizes = mixed_sizes(most, proposing=proposing)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == most
