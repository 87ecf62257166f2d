"""The memory that attention keeps: keys and values of every layer, in blocks."""

import math
from dataclasses import dataclass

import numpy as np
import torch

CacheShape = tuple[torch.Size, torch.Size]
"""[1, kv_heads, 1, head_dim] of a layer's key and of its value."""


@dataclass(frozen=True, slots=True)
class KVCache:
    """What one head keeps of a block is a page: [block_size, head_dim] in one piece."""

    keys: list[torch.Tensor]  # per layer [num_blocks, kv_heads, block_size, head_dim]
    values: list[torch.Tensor]
    block_size: int
    dtype: torch.dtype  # of what is written and of what attention computes with

    @classmethod
    def of(
        cls,
        shapes: list[CacheShape],
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        kept: torch.dtype | None = None,
    ) -> "KVCache":
        """An empty cache for layers of these shapes; `kept`: the type it keeps, if that is another than `dtype`."""

        def pages(shape: torch.Size) -> torch.Tensor:
            return _zeros((num_blocks, shape[1], block_size, shape[3]), kept or dtype, device)

        return cls([pages(key) for key, _ in shapes], [pages(value) for _, value in shapes], block_size, dtype)

    @property
    def kv_heads(self) -> set[int]:
        """The counts of heads that occur; most models have the same in every layer."""
        return {keys.shape[1] for keys in self.keys}

    @property
    def even(self) -> bool:
        """Each layer's keys are as large as its values; not so in multi-head latent attention."""
        return all(key.shape == value.shape for key, value in zip(self.keys, self.values, strict=True))

    @property
    def device(self) -> torch.device:
        return self.keys[0].device

    @property
    def kept(self) -> torch.dtype:
        """The type of the numbers as they are kept."""
        return self.keys[0].dtype


def bytes_per_token(shapes: list[CacheShape], dtype: torch.dtype) -> int:
    """Bytes the cache needs for one id."""
    return sum(key.numel() + value.numel() for key, value in shapes) * dtype.itemsize


def _zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; on the CPU they take memory only once they are written (unlike torch's own, which are written at once)."""
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    lazy = np.zeros(math.prod(size) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(lazy).view(dtype).view(size)
