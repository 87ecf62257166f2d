"""Sizes of an engine, fixed when it is built."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Sizes in ids unless named otherwise; 0 means: choose from the model and the machine.

    `max_batched_tokens` bounds the ids computed in one step, so a long prompt never stalls running answers for longer
    than one chunk of that size.
    """

    max_running: int = 32
    context_tokens: int = 0
    kv_cache_tokens: int = 0
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """What the KV cache keeps: numbers of the model's type, or of eight bits (see fp8.py)."""
    block_size: int = 32
    max_batched_tokens: int = 0
    threads: int = 0
    eager: bool = False
    """Capture no CUDA graphs: starts at once, and generates more slowly."""
    kernels: bool | None = None
    """Triton's kernels between the matrix products; None: on a CUDA device."""
    lookahead: bool | None = None
    """Begin a step before the ids of the one before it are known; None: on a CUDA device."""
    speculate: int = 0
    """Ids at most that are guessed for an answer in one step (see speculation.py); 0: none."""
