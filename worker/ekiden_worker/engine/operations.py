"""What a decoder layer does between its matrix products, in torch's own operators."""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from ekiden_worker.engine.attention import Attention
from ekiden_worker.engine.linears import OneRow


@dataclass(frozen=True, slots=True)
class Heads:
    """How a layer's rows divide into heads: `query` of them, then `kv` keys and `kv` values, each of `size` numbers."""

    query: int
    kv: int
    size: int


@dataclass(frozen=True, slots=True)
class Norm:
    """An RMSNorm (Zhang, Sennrich 2019)."""

    weight: torch.Tensor
    epsilon: float


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """Norms of each head of queries and keys, where a model has them."""

    query: Norm
    key: Norm


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary position embedding (Su et al. 2021), the first half of a head against the second.

    `cos` and `sin` are [rows, head_dim / 2], of each row's position.
    """

    cos: torch.Tensor
    sin: torch.Tensor


class Operations(Protocol):
    """The steps between matrix products. They may write over what they are given."""

    @property
    def one_row(self) -> OneRow | None:
        """A faster way to multiply a single row by a weight, if there is one."""
        ...

    def norm(self, rows: torch.Tensor, norm: Norm) -> torch.Tensor:
        """[..., size] → the same, each row by itself."""
        ...

    def add_norm(self, stream: torch.Tensor, more: torch.Tensor | None, norm: Norm) -> torch.Tensor:
        """Add to the residual stream, in place; returns its norm."""
        ...

    def place(
        self, rows: torch.Tensor, heads: Heads, rotation: Rotation, layer: int, attention: Attention
    ) -> torch.Tensor:
        """Rotate queries and keys of [rows, all heads · size] and keep keys and values; returns [rows, heads, size]."""
        ...

    def gate(self, rows: torch.Tensor) -> torch.Tensor:
        """silu of the first half of each row, times the second half."""
        ...


class TorchOperations:
    """`Operations` on any device."""

    one_row: OneRow | None = None

    def norm(self, rows: torch.Tensor, norm: Norm) -> torch.Tensor:
        return F.rms_norm(rows, (rows.shape[-1],), norm.weight, norm.epsilon)

    def add_norm(self, stream: torch.Tensor, more: torch.Tensor | None, norm: Norm) -> torch.Tensor:
        return self.norm(stream if more is None else stream.add_(more), norm)

    def place(
        self, rows: torch.Tensor, heads: Heads, rotation: Rotation, layer: int, attention: Attention
    ) -> torch.Tensor:
        turned = heads.query + heads.kv
        halves = rows[:, : turned * heads.size].view(-1, turned, 2, heads.size // 2)
        first, second = halves.unbind(2)
        cos, sin = rotation.cos[:, None], rotation.sin[:, None]
        out = torch.empty_like(halves)
        torch.mul(first, cos, out=out[:, :, 0]).addcmul_(second, sin, value=-1)
        torch.mul(second, cos, out=out[:, :, 1]).addcmul_(first, sin)
        query, key = torch.split(out.view(-1, turned, heads.size), [heads.query, heads.kv], dim=1)
        attention.write(layer, key, rows[:, turned * heads.size :].view(-1, heads.kv, heads.size))
        return query

    def gate(self, rows: torch.Tensor) -> torch.Tensor:
        gates, ups = rows.chunk(2, dim=-1)
        return F.silu(gates).mul_(ups)
