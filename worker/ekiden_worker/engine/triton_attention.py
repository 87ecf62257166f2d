"""Attention and the steps between matrix products by the Triton kernels: for CUDA devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from ekiden_worker.engine.attention import Attention
from ekiden_worker.engine.inputs import Array, slots_of, tables_of, uploaded
from ekiden_worker.engine.kernels import attention as kernels
from ekiden_worker.engine.kernels import layers, linear
from ekiden_worker.engine.kv_cache import KVCache
from ekiden_worker.engine.linears import OneRow
from ekiden_worker.engine.operations import Heads, Norm, Rotation
from ekiden_worker.engine.scheduler import Chunk


@dataclass(frozen=True, slots=True)
class Decodes:
    """The sequences of the first rows, one row each."""

    tables: torch.Tensor  # [sequences, blocks], int32
    lengths: torch.Tensor  # [sequences], int32: ids that each row sees, itself included


@dataclass(frozen=True, slots=True)
class Prefills:
    """The chunks of the rows behind them."""

    tables: torch.Tensor  # [chunks, blocks], int32
    tiles: torch.Tensor  # [tiles, 4], int32 (see kernels.attention.tiles_of)


class TritonAttention:
    """One step (see `attention.Attention`): first the rows of sequences that decode, one id each, then prefills."""

    def __init__(
        self, cache: KVCache, slots: torch.Tensor, decodes: Decodes | None = None, prefills: Prefills | None = None
    ) -> None:
        """`slots` [rows], int32: the place of each row's keys and values, block · block_size + place in the block."""
        self._cache = cache
        self._slots = slots
        self._decodes = decodes
        self._prefills = prefills

    @classmethod
    def of(cls, cache: KVCache, chunks: list[Chunk]) -> "TritonAttention":
        """For a step of these chunks, those of one id first."""

        def upload(array: Array) -> torch.Tensor:
            return uploaded(array, cache.device)

        split = sum(chunk.count == 1 for chunk in chunks)
        decodes = prefills = None
        if split:
            lengths = np.array([chunk.sequence.computed + 1 for chunk in chunks[:split]], dtype=np.int32)
            decodes = Decodes(upload(tables_of(chunks[:split])), upload(lengths))
        if split < len(chunks):
            tiles = np.array(tiles_of_chunks(chunks[split:], split), dtype=np.int32)
            prefills = Prefills(upload(tables_of(chunks[split:])), upload(tiles))
        return cls(cache, upload(slots_of(chunks, cache.block_size)), decodes, prefills)

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        layers.write(key, value, self._slots, self._cache.keys[layer], self._cache.values[layer])

    def attend(self, layer: int, query: torch.Tensor, scale: float) -> torch.Tensor:
        # Rows that fill a step up are nobody's; what lay in memory must not grow through the layers to infinity.
        made = torch.zeros if self._prefills else torch.empty
        out = made(query.shape, dtype=query.dtype, device=query.device)
        if not (self._decodes and self._prefills and query.is_cuda):
            self._decode(layer, query, scale, out)
            self._prefill(layer, query, scale, out)
            return out
        # Decode is bound by memory and prefill by arithmetic: side by side they take less than one after the other.
        main, side = torch.cuda.current_stream(), _side_stream(query.device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            self._decode(layer, query, scale, out)
        self._prefill(layer, query, scale, out)
        main.wait_stream(side)
        return out

    def _decode(self, layer: int, query: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        if self._decodes:
            first, keys, values = self._decodes.lengths.shape[0], self._cache.keys[layer], self._cache.values[layer]
            given = self._decodes.tables, self._decodes.lengths
            kernels.decode(query[:first], keys, values, *given, scale, out[:first])

    def _prefill(self, layer: int, query: torch.Tensor, scale: float, out: torch.Tensor) -> None:
        if self._prefills:
            keys, values = self._cache.keys[layer], self._cache.values[layer]
            kernels.prefill(query, keys, values, self._prefills.tables, self._prefills.tiles, scale, out)

    def place(self, layer: int, rows: torch.Tensor, rotation: Rotation, query_heads: int) -> torch.Tensor:
        """Rotate and `write` in one; returns the queries (see kernels.layers.place)."""
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        return layers.place(rows, rotation.cos, rotation.sin, self._slots, keys, values, query_heads)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def tiles_of_chunks(chunks: Sequence[Chunk], first_row: int) -> list[tuple[int, int, int, int]]:
    """The tiles (see kernels.attention.tiles_of) of chunks whose rows begin at `first_row`; tables in their order.

    Those with the most to look back at come first, so that none of them is what a GPU waits for at the end.
    """
    tiles = list[tuple[int, int, int, int]]()
    for table, chunk in enumerate(chunks):
        tiles += kernels.tiles_of(first_row, chunk.count, chunk.sequence.computed, table)
        first_row += chunk.count
    return sorted(tiles, key=lambda tile: -tile[2])


class TritonOperations:
    """`Operations` by kernels, with a step's `TritonAttention`."""

    one_row: OneRow | None = staticmethod(linear.one_row)

    def norm(self, rows: torch.Tensor, norm: Norm) -> torch.Tensor:
        flat = rows.reshape(-1, rows.shape[-1])
        return layers.add_norm(flat, None, norm.weight, norm.epsilon).view(rows.shape)

    def add_norm(self, stream: torch.Tensor, more: torch.Tensor | None, norm: Norm) -> torch.Tensor:
        return layers.add_norm(stream, more, norm.weight, norm.epsilon)

    def place(
        self, rows: torch.Tensor, heads: Heads, rotation: Rotation, layer: int, attention: Attention
    ) -> torch.Tensor:
        if not isinstance(attention, TritonAttention):
            raise TypeError("kernels place rows through their own attention")
        return attention.place(layer, rows, rotation, heads.query)

    def gate(self, rows: torch.Tensor) -> torch.Tensor:
        return layers.gate(rows)
