"""One step as the forward pass sees it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ekiden_worker.engine.attention import Attention


@dataclass(frozen=True, slots=True)
class Batch:
    """The ids of a step, one row each: first those of sequences that decode, then chunks of prompts."""

    ids: torch.Tensor  # [rows], int64
    positions: torch.Tensor  # [rows], int64
    last: torch.Tensor  # [choices], int64: the rows whose logits are wanted
    attention: Attention


Forward = Callable[[Batch], torch.Tensor]
"""A model: writes the batch's keys and values, and returns logits [choices, vocab_size]."""
