"""The workload's model as a worker's runtime: what stands in an answer means nothing, how fast it comes is measured.

Loaded by a worker with EKIDEN_ENGINE=tests.benchmarks.gpu.random_model:load. A prompt has an id for each of its bytes.
EKIDEN_TEST_LAYERS: how many layers the model has.
"""

import os

import torch

from ekiden.settings import Settings
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.prompts import PromptRules
from ekiden_worker.runtime import Runtime
from ekiden_worker.text import Vocabulary
from tests.benchmarks.gpu.workload import LLAMA_2_7B, model
from tests.support.bytes_format import BytesFormat


def load(settings: Settings) -> Runtime:
    """What EKIDEN_ENGINE names."""
    return runtime(settings, int(os.environ["EKIDEN_TEST_LAYERS"]))


def runtime(settings: Settings, layers: int) -> Runtime:
    """A runtime of a model of so many layers."""
    dtype = torch.float32 if settings.device == "cpu" else torch.bfloat16
    config = EngineConfig(
        max_running=settings.max_running, kv_cache_tokens=settings.kv_cache_tokens, eager=settings.eager
    )
    pieces = tuple(f" {number}".encode() for number in range(LLAMA_2_7B.vocab_size))
    return Runtime(
        model=settings.model_name,
        engine=BatchEngine(model(settings.device, dtype, layers), config),
        prompts=BytesFormat(single_turn=True),
        rules=PromptRules.of(settings),
        vocabulary=Vocabulary(pieces=pieces, strip_leading_space=False, control_breaks=False),
        end_ids=frozenset(),
    )
