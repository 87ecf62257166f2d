"""What befalls our own engine: steps that fail, too little memory, a lost device.

What holds for any engine is in test_contract.py.
"""

from itertools import count

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.flight import Flight
from ekiden_worker.engine.interface import EngineError, Finish, SamplingParams
from ekiden_worker.engine.model_runner import ModelRunner
from ekiden_worker.engine.scheduler import Chunk
from tests.support.waiting import until
from tests.unit.engine.conftest import MakeEngine, tiny_model

LONG = SamplingParams(max_tokens=400)


def test_cancel_ends_a_running_a_waiting_and_a_half_read_request(make_engine: MakeEngine) -> None:
    engine = make_engine(max_running=1, max_batched_tokens=8)
    engine.submit("running", [5], LONG)
    engine.submit("waiting", [6], LONG)
    engine.wait_ids("running", 3)
    engine.engine.cancel("waiting")
    engine.wait("waiting")
    assert engine.ids["waiting"] == []
    engine.submit("half", [7] * 100, LONG)
    engine.engine.cancel("running")
    engine.wait("running")
    engine.engine.cancel("half")
    engine.engine.cancel("unknown")
    engine.wait("half")
    assert {engine.ends[name].finish for name in ("running", "waiting", "half")} == {Finish.CANCELLED}
    engine.run([[5]], SamplingParams(max_tokens=2))


def test_an_engine_that_was_idle_does_not_look_hung_when_work_comes(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.engine._open.last_step = float("-inf")
    engine.submit("a", [5], LONG)
    age = engine.engine.stats().last_step_age_s
    assert age is not None
    assert age < 60
    engine.engine.cancel("a")
    engine.wait("a")


def test_a_failing_step_ends_its_requests_and_the_engine_goes_on(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    engine = make_engine(model)
    engine.submit("a", [5], LONG)
    engine.submit("b", [6], LONG)
    engine.wait_ids("b", 2)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise ValueError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "launch", fail)
        engine.wait("a", "b")
    assert {engine.ends[name].finish for name in "ab"} == {Finish.ERROR}
    assert engine.ends["a"].error_code == "engine_error"
    assert "broken" not in str(engine.ends["a"].error_message)
    engine.run([[5]], SamplingParams(max_tokens=4))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
)
def test_a_step_without_enough_memory_is_tried_again_with_less(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    prompts = [[number + 1] * (40 + number) for number in range(8)]
    params = SamplingParams(max_tokens=20, temperature=0.9, seed=3)
    expected = make_engine().run(prompts, params)
    launch = ModelRunner.launch

    def bounded(runner: ModelRunner, chunks: list[Chunk]) -> Flight:
        if len(chunks) > 3 or sum(chunk.count for chunk in chunks) > 50:
            raise error
        return launch(runner, chunks)

    engine = make_engine()
    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "launch", bounded)
        assert engine.run(prompts, params) == expected
    assert engine.engine.stats().preemptions > 0


def test_little_memory_for_prompts_does_not_keep_answers_from_running_together(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(speculate=0)  # an answer may sit out a step until it is known which of its guesses were right
    launch = ModelRunner.launch
    together = list[int]()

    def bounded(runner: ModelRunner, chunks: list[Chunk]) -> Flight:
        if sum(chunk.count for chunk in chunks) > 40:
            raise MemoryError
        together.append(len(chunks))
        return launch(runner, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "launch", bounded)
        engine.run([[number + 1] * 60 for number in range(16)], SamplingParams(max_tokens=60))
    assert engine.engine.stats().preemptions == 0
    assert max(together) == 16


def test_memory_that_is_gone_for_a_moment_ends_no_answer(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    launch = ModelRunner.launch
    failures = iter(range(9))  # more than it takes to come down to the smallest step

    def squeezed(runner: ModelRunner, chunks: list[Chunk]) -> Flight:
        if next(failures, None) is not None:
            raise MemoryError
        return launch(runner, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "launch", squeezed)
        engine.run([[5] * 50, [6] * 50], SamplingParams(max_tokens=4))


def test_an_answer_without_enough_memory_alone_ends_and_the_engine_goes_on(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    launch = ModelRunner.launch

    def bounded(runner: ModelRunner, chunks: list[Chunk]) -> Flight:
        if any(len(chunk.sequence.ids) > 30 for chunk in chunks):
            raise MemoryError
        return launch(runner, chunks)

    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "launch", bounded)
        engine.submit("large", [5] * 50, LONG)
        engine.submit("small", [6], SamplingParams(max_tokens=4))
        engine.wait("large", "small")
    assert engine.ends["large"].error_code == "engine_error"
    assert engine.ends["small"].finish is Finish.LENGTH


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_step_that_fails_when_its_ids_are_chosen_penalizes_none_of_them(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    params = SamplingParams(max_tokens=30, temperature=temperature, repetition_penalty=1.5, seed=3)
    expected = make_engine().run([[5, 6, 7]], params)
    engine = make_engine()
    fly = ModelRunner._flight
    steps = count(1)

    def late(runner: ModelRunner, chunks: list[Chunk], chosen: torch.Tensor) -> Flight:
        if next(steps) % 3 == 0:
            raise MemoryError
        return fly(runner, chunks, chosen)

    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "_flight", late)
        assert engine.run([[5, 6, 7]], params) == expected


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: an illegal memory access was encountered",
        "Triton Error [CUDA]: device-side assert triggered",  # where the next thing launched is a kernel of Triton's
    ],
)
def test_a_lost_device_ends_the_engine_without_ending_its_requests(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    model = tiny_model("llama")
    engine = make_engine(model)
    engine.submit("a", [5], LONG)
    engine.wait_ids("a", 2)

    def fail(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError(said)

    with monkeypatch.context() as patch:
        patch.setattr(ModelRunner, "launch", fail)
        until(lambda: not engine.engine.alive, what="the end of the engine thread")
    assert "a" not in engine.ends
    engine.open.clear()
    engine.engine._finish(engine.engine._sequences["a"], Finish.CANCELLED)


def test_a_sliding_window_limits_the_context_and_other_attention_is_refused() -> None:
    sizes = {"vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256}
    mistral = MistralForCausalLM(MistralConfig(**sizes, sliding_window=64)).eval()
    assert BatchEngine(mistral, EngineConfig()).context_tokens == 64
    odd = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    odd.config.layer_types = ["linear_attention"]
    with pytest.raises(EngineError) as caught:
        BatchEngine(odd, EngineConfig())
    assert caught.value.code == "not_supported"


def test_a_cache_smaller_than_the_context_limits_it() -> None:
    engine = BatchEngine(tiny_model("llama"), EngineConfig(kv_cache_tokens=96, block_size=32))
    assert engine.context_tokens == 96


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_greedy_on_cuda_equals_the_cpu(make_engine: MakeEngine) -> None:
    from copy import deepcopy

    model = tiny_model("llama")
    prompt = list(range(10, 60))
    on_cpu = make_engine(model).run([prompt], SamplingParams(max_tokens=20))
    on_cuda = make_engine(deepcopy(model).to("cuda"), kv_cache_tokens=2048)
    assert on_cuda.run([prompt], SamplingParams(max_tokens=20)) == on_cpu
