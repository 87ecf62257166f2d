"""Engines on the device, checked for lost blocks after every test, and what their steps were made of."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from transformers import PreTrainedModel

from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.flight import Flight
from ekiden_worker.engine.model_runner import ModelRunner
from ekiden_worker.engine.scheduler import Chunk
from tests.gpu import DEVICE, ON_CUDA
from tests.support.engine import Collector, checked_engines
from tests.unit.engine.conftest import tiny_model

CACHE_TOKENS = 16_384  # by itself an engine takes all memory of a GPU, of which tiny models make millions of blocks

MakeEngine = Callable[..., Collector]


@cache
def model_on_device(kind: str) -> PreTrainedModel:
    """A tiny random model in float32."""
    model: PreTrainedModel = deepcopy(tiny_model(kind)).to(DEVICE)  # type: ignore[arg-type]
    return model


def assert_captured(engine: BatchEngine) -> None:
    """All sizes of steps are CUDA graphs; on another device nothing is."""
    if not ON_CUDA:
        return
    from ekiden_worker.engine.fixed_steps import DecodeSteps, MixedSteps, decode_sizes, mixed_sizes

    runner = engine._runner
    assert runner.uses_kernels
    assert isinstance(runner._decode, DecodeSteps)
    assert isinstance(runner._mixed, MixedSteps)
    assert sorted(runner._decode.steps._captured) == decode_sizes(engine.max_running)
    assert sorted(runner._mixed.steps._captured) == mixed_sizes(engine._scheduler.budget.most)


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    """Start engines with given sizes, as a worker on a GPU has them: with kernels, graphs and steps begun early.

    Each is stopped and must have all its blocks at the end.
    """
    with checked_engines() as start:

        def make(kind: str = "llama", **sizes: Any) -> Collector:
            config = EngineConfig(**{"kv_cache_tokens": CACHE_TOKENS, "lookahead": True, **sizes})
            collector = start(BatchEngine(model_on_device(kind), config))
            if kind in ("llama", "qwen3"):  # transformers' own code, which others run, need not be fit for graphs
                assert_captured(collector.engine)
            return collector

        yield make


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(rows, sequences with one row) of every step from now on."""
    noted: list[tuple[int, int]] = []
    launch = ModelRunner.launch

    def note(runner: ModelRunner, chunks: list[Chunk]) -> Flight:
        noted.append((sum(chunk.count for chunk in chunks), sum(chunk.count == 1 for chunk in chunks)))
        return launch(runner, chunks)

    monkeypatch.setattr(ModelRunner, "launch", note)
    return noted
