"""vLLM as a worker's engine: loaded by its name, or refused in one sentence; and where it is not like ours."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from ekiden.settings import Settings, load_settings
from ekiden_worker import vllm_engine
from ekiden_worker.__main__ import load_runtime
from ekiden_worker.engine.interface import EngineError, Finish, SamplingParams
from ekiden_worker.model import load
from ekiden_worker.runtime import ModelError
from ekiden_worker.vllm_engine import VllmEngine
from tests.support.engine import Collector
from tests.support.small_model import vllm_marks, write_small_model
from tests.support.waiting import until

LONG = SamplingParams(max_tokens=400)
SHORT = SamplingParams(max_tokens=12)
NAME = f"{vllm_engine.__name__}:{vllm_engine.load.__name__}"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

MakeVllm = Callable[..., Collector[VllmEngine]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_small_model(tmp_path / "small")
    return tmp_path / "small"


def options(folder: Path, **extra: Any) -> Settings:
    return load_settings(model=str(folder), device=DEVICE, dtype="float32", eager=True, max_running=4, **extra)


@pytest.fixture
def make_vllm(folder: Path) -> Iterator[MakeVllm]:
    """Start engines with given settings; each is stopped."""
    started = list[Collector[VllmEngine]]()

    def make(**extra: Any) -> Collector[VllmEngine]:
        engine = load_runtime(options(folder, engine=NAME, **extra)).engine
        assert isinstance(engine, VllmEngine)
        started.append(Collector(engine))
        engine.start(started[-1])
        return started[-1]

    yield make
    for collector in started:
        collector.engine.stop()


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_where_it_is_not_installed_a_worker_says_how_to_get_it(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"^vLLM cannot be loaded: .*vllm.* It is the extra ekiden\[vllm\]\.$"):
        load_runtime(options(folder, engine=NAME))


class TestVllm:
    pytestmark = vllm_marks()

    def test_a_model_is_spoken_to_and_read_as_with_our_own_engine(self, folder: Path) -> None:
        own, other = load(options(folder)), load_runtime(options(folder, engine=NAME))
        assert (other.model, other.end_ids, other.prompts.name) == (own.model, own.end_ids, own.prompts.name)
        assert other.end_ids
        assert (other.engine.context_tokens, other.engine.max_running) == (512, 4)
        answers = list[list[int]]()
        for runtime in (own, other):
            collector = Collector(runtime.engine)
            runtime.engine.start(collector)
            answers += collector.run([[5, 6, 7]], SHORT)
            runtime.engine.stop()
        assert answers[0] == answers[1]

    def test_limits_hold(self, make_vllm: MakeVllm) -> None:
        assert make_vllm(context_tokens=100).engine.context_tokens == 100
        assert make_vllm(context_tokens=100_000).engine.context_tokens == 512
        small = make_vllm(kv_cache_tokens=96)
        assert small.engine.context_tokens == 96
        assert len(small.run([[5] * 90], SamplingParams(max_tokens=6))[0]) == 6

    def test_more_than_the_cache_holds_is_generated_all_the_same(self, make_vllm: MakeVllm) -> None:
        prompts = [[5 + number] * 100 for number in range(8)]
        tight = make_vllm(kv_cache_tokens=512)
        assert tight.run(prompts, SamplingParams(max_tokens=200)) == make_vllm().run(
            prompts, SamplingParams(max_tokens=200)
        )
        stats = tight.engine.stats()
        assert stats.total_blocks > 0
        assert stats.held_blocks == 0

    def test_what_vllm_does_not_take_is_refused(self, make_vllm: MakeVllm, folder: Path) -> None:
        engine = make_vllm()
        with pytest.raises(EngineError, match="temperature") as caught:
            engine.submit("hot", [5], SamplingParams(max_tokens=4, temperature=2.5))
        assert caught.value.code == "out_of_range"
        with pytest.raises(ModelError, match=r"^vLLM does not take it: .*max_num_seqs"):
            load_runtime(options(folder, engine=NAME).model_copy(update={"max_running": 1_000_000}))

    def test_a_request_that_fails_ends_alone(self, make_vllm: MakeVllm, monkeypatch: pytest.MonkeyPatch) -> None:
        from vllm.exceptions import VLLMClientError

        engine = make_vllm()
        engine.submit("a", [5], LONG)
        engine.wait_ids("a", 2)

        def refuse(*_args: object, **_kwargs: object) -> NoReturn:
            raise VLLMClientError("broken on purpose")

        with monkeypatch.context() as patch:
            patch.setattr(engine.engine._engine, "add_request", refuse)
            engine.submit("b", [6], LONG)
            engine.wait("b")
        assert (engine.ends["b"].finish, engine.ends["b"].error_code) == (Finish.ERROR, "engine_error")
        assert "broken" not in str(engine.ends["b"].error_message)
        engine.wait("a")
        assert engine.ends["a"].finish is Finish.LENGTH

    def test_a_step_that_fails_ends_the_engine_without_ending_its_requests(
        self, make_vllm: MakeVllm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = make_vllm()
        engine.submit("a", [5], LONG)
        engine.wait_ids("a", 2)

        def fail() -> NoReturn:
            raise RuntimeError("broken on purpose")

        monkeypatch.setattr(engine.engine._engine, "step", fail)
        until(lambda: not engine.engine.alive, what="the end of the engine thread")
        assert "a" not in engine.ends


@pytest.mark.parametrize("given", [{"quantization": "int8"}, {"kv_cache_dtype": "fp8"}, {"speculate": "ngram"}])
def test_what_only_our_own_engine_does_is_refused(folder: Path, given: dict[str, str]) -> None:
    [(name, value)] = given.items()
    with pytest.raises(ModelError, match=f"EKIDEN_{name.upper()}={value} is for Ekiden's own engine"):
        vllm_engine.load(options(folder, **given))
