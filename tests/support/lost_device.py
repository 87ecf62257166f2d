"""A small random model in float32 whose device is lost in mid-answer, once, when a test asks for it.

Loaded by a real worker process with EKIDEN_ENGINE=tests.support.lost_device:load. While the file exists that
EKIDEN_TEST_FAULT_FILE names, the first step of an answer with FAULT_AFTER ids takes the file away and loses the device:
on a CUDA device by a kernel that reads behind the end of a table, on another by the error that it would give.
"""

import os
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ekiden.settings import Settings
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.flight import Flight
from ekiden_worker.engine.scheduler import Chunk
from ekiden_worker.prompts import PromptRules
from ekiden_worker.runtime import Runtime
from ekiden_worker.text import Vocabulary
from tests.support.bytes_format import BytesFormat

VOCAB = 300  # one id for each byte of a prompt, and more
FAULT_AFTER = 30
CACHE_TOKENS = 16_384  # else a GPU is filled with blocks


def model(device: str) -> LlamaForCausalLM:
    """The same weights in every process."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, initializer_range=0.4,
    )  # fmt: skip
    made: LlamaForCausalLM = LlamaForCausalLM(config).to(device).eval()  # type: ignore[arg-type]
    return made.requires_grad_(False)


def lose(device: torch.device) -> None:
    """Ask a kernel for a row that is not there. It fails when the device comes to it, and with it all that follows."""
    if device.type != "cuda":
        raise RuntimeError("CUDA error: device-side assert triggered")
    table = torch.zeros(8, device=device)
    table[torch.full((64,), 1 << 20, device=device)]


def losing(engine: BatchEngine, file: Path) -> None:
    """Lose the engine's device in the midst of an answer, once the file exists."""
    launch, device = engine._runner.launch, engine._device

    def fatal(chunks: list[Chunk]) -> Flight:
        if file.exists() and any(chunk.sequence.generated >= FAULT_AFTER for chunk in chunks):
            file.unlink()
            lose(device)
        return launch(chunks)

    engine._runner.launch = fatal  # type: ignore[method-assign]


def load(settings: Settings) -> Runtime:
    """What EKIDEN_ENGINE names."""
    config = EngineConfig(max_running=settings.max_running, kv_cache_tokens=CACHE_TOKENS)
    engine = BatchEngine(model(settings.device), config)
    losing(engine, Path(os.environ["EKIDEN_TEST_FAULT_FILE"]))
    return Runtime(
        model=settings.model_name,
        engine=engine,
        prompts=BytesFormat(),
        rules=PromptRules.of(settings),
        vocabulary=Vocabulary(
            pieces=tuple(f" {token}".encode() for token in range(VOCAB)),
            strip_leading_space=False,
            control_breaks=False,
        ),
        end_ids=frozenset(),
    )
