"""The workload's model as a worker's runtime: what stands in an answer means nothing, how fast it comes is measured.

Loaded by a worker with EKIDEN_ENGINE=tests.benchmarks.gpu.random_model:load. A prompt has an id for each of its bytes.
EKIDEN_TEST_LAYERS: how many layers the model has. EKIDEN_TEST_TINY: set for the tiny one.
"""

import os

import torch

from ekiden.settings import Settings
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.prompts import PromptRules
from ekiden_worker.runtime import Runtime
from ekiden_worker.text import Vocabulary
from tests.benchmarks.gpu.workload import LLAMA_2_7B, Size, model
from tests.support.bytes_format import BytesFormat


def load(settings: Settings) -> Runtime:
    """What EKIDEN_ENGINE names."""
    return runtime(settings, Size(int(os.environ["EKIDEN_TEST_LAYERS"]), "EKIDEN_TEST_TINY" in os.environ))


def environment(size: Size) -> dict[str, str]:
    """What has a worker load a model of this size."""
    named = {"EKIDEN_ENGINE": f"{__name__}:{load.__name__}", "EKIDEN_TEST_LAYERS": str(size.layers)}
    return named | ({"EKIDEN_TEST_TINY": "1"} if size.tiny else {})


def runtime(settings: Settings, size: Size) -> Runtime:
    """A runtime of a model of this size."""
    dtype = torch.float32 if settings.device == "cpu" else torch.bfloat16
    config = EngineConfig(
        max_running=settings.max_running, kv_cache_tokens=settings.kv_cache_tokens, eager=settings.eager
    )
    pieces = tuple(f" {number}".encode() for number in range(LLAMA_2_7B.vocab_size))
    return Runtime(
        model=settings.model_name,
        engine=BatchEngine(model(settings.device, dtype, size), config),
        prompts=BytesFormat(single_turn=True),
        rules=PromptRules.of(settings),
        vocabulary=Vocabulary(pieces=pieces, strip_leading_space=False, control_breaks=False),
        end_ids=frozenset(),
    )
