"""Attention by gathering pages and torch's scaled_dot_product_attention: right on every device, and fast on a CPU."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)

from ekiden_worker.engine.block_manager import TRASH_BLOCK
from ekiden_worker.engine.fp8 import FP8, from_fp8, to_fp8
from ekiden_worker.engine.kv_cache import KVCache
from ekiden_worker.engine.scheduler import Chunk

PagesByHeads = dict[int, torch.Tensor]
"""By kv_heads, which may differ from layer to layer: numbers of pages, or of places in them."""


@dataclass(frozen=True, slots=True)
class _Prefill:
    """Rows [begin, end) of the step: ids of a sequence that follow those it has in its pages."""

    begin: int
    end: int
    pages: PagesByHeads  # [kv_heads · blocks of the sequence], int64
    mask: torch.Tensor | None  # [rows, ids so far], bool; None for a sequence's first ids: plainly causal


class SdpaAttention:
    """One step (see `attention.Attention`): first the rows of sequences that decode, one id each, then prefills."""

    def __init__(self, cache: KVCache, chunks: list[Chunk]) -> None:
        """`chunks`: those of one id first."""
        self._cache = cache
        self._places = self._places_of(chunks)
        decodes = [chunk.sequence for chunk in chunks if chunk.count == 1]
        self._decodes = len(decodes)
        self._decode_pages: PagesByHeads = {}
        self._decode_mask: torch.Tensor | None = None
        if decodes:
            width = max(len(sequence.block_table) for sequence in decodes)
            padding = [TRASH_BLOCK] * width
            self._decode_pages = self._pages([(sequence.block_table + padding)[:width] for sequence in decodes])
            self._decode_mask = self._mask([sequence.computed + 1 for sequence in decodes], width * cache.block_size)
        self._prefills, row = [], len(decodes)
        for chunk in chunks[len(decodes) :]:
            self._prefills.append(self._prefill(chunk, row))
            row += chunk.count

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        places = self._places[key.shape[1]]
        _put(self._cache.keys[layer], places, key)
        _put(self._cache.values[layer], places, value)

    def attend(self, layer: int, query: torch.Tensor, scale: float) -> torch.Tensor:
        keys, values = self._cache.keys[layer], self._cache.values[layer]
        parts = []
        if self._decodes:
            parts.append(self._attend_decodes(query[: self._decodes], keys, values, scale))
        parts += [_attend_prefill(query[rows.begin : rows.end], keys, values, rows, scale) for rows in self._prefills]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _attend_decodes(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
    ) -> torch.Tensor:
        rows, heads, kv_heads = query.shape[0], query.shape[1], keys.shape[1]
        pages = self._decode_pages[kv_heads]
        # The heads of a group share keys: as several queries of one head they need no copies of them.
        grouped = query.reshape(rows, kv_heads, heads // kv_heads, -1)
        key, value = (_gather(cache, pages, rows, query.dtype) for cache in (keys, values))
        found = F.scaled_dot_product_attention(grouped, key, value, attn_mask=self._decode_mask, scale=scale)
        return found.reshape(rows, heads, -1)

    def _prefill(self, chunk: Chunk, row: int) -> _Prefill:
        past = chunk.sequence.computed
        pages, mask = self._pages(chunk.sequence.block_table), None
        if past:
            mask = torch.ones(chunk.count, past + chunk.count, dtype=torch.bool, device=self._cache.device).tril_(past)
        return _Prefill(row, row + chunk.count, pages, mask)

    def _mask(self, lengths: list[int], reach: int) -> torch.Tensor:
        """Zero where a sequence has ids, -inf behind them; a bool mask would be turned into this by every layer."""
        behind = torch.arange(reach, device=self._cache.device) >= self._tensor(lengths)[:, None]
        mask = torch.zeros(behind.shape, dtype=self._cache.dtype, device=self._cache.device)
        return mask.masked_fill_(behind, -torch.inf)[:, None, None]

    def _pages(self, blocks: list[int] | list[list[int]]) -> PagesByHeads:
        table = self._tensor(blocks)
        return {kv_heads: _pages_of(table, kv_heads) for kv_heads in self._cache.kv_heads}

    def _places_of(self, chunks: list[Chunk]) -> PagesByHeads:
        """Where each row's keys and values go: [rows · kv_heads]."""
        size, slots = self._cache.block_size, list[int]()
        for chunk in chunks:
            table, start = chunk.sequence.block_table, chunk.sequence.computed
            slots += (table[at // size] * size + at % size for at in range(start, start + chunk.count))
        where = self._tensor(slots)[:, None]
        return {
            kv_heads: (_pages_of(where // size, kv_heads).view(-1, kv_heads) * size + where % size).flatten()
            for kv_heads in self._cache.kv_heads
        }

    def _tensor(self, values: list[int] | list[list[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._cache.device)


def _pages_of(blocks: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """The pages of each head, block after block: [..., blocks] → [all · kv_heads]."""
    heads = torch.arange(kv_heads, device=blocks.device)
    return (blocks[..., None, :] * kv_heads + heads[:, None]).flatten()


def _put(cache: torch.Tensor, places: torch.Tensor, rows: torch.Tensor) -> None:
    """Write rows [rows, kv_heads, head_dim]."""
    if cache.dtype == FP8:  # torch copies such numbers by index as bytes alone
        cache, rows = cache.view(torch.uint8), to_fp8(rows).view(torch.uint8)
    cache.flatten(0, 2).index_copy_(0, places, rows.flatten(0, 1))


def _gather(cache: torch.Tensor, pages: torch.Tensor, sequences: int, dtype: torch.dtype) -> torch.Tensor:
    """Whole blocks of each sequence: [sequences, kv_heads, blocks · block_size, head_dim], of the type `dtype`."""
    if cache.dtype == FP8:
        found = from_fp8(cache.view(torch.uint8).flatten(0, 1).index_select(0, pages).view(FP8), dtype)
    else:
        found = cache.flatten(0, 1).index_select(0, pages)
    return found.view(sequences, cache.shape[1], -1, cache.shape[3])


def _attend_prefill(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, rows: _Prefill, scale: float
) -> torch.Tensor:
    """A chunk of one sequence."""
    length = rows.mask.shape[1] if rows.mask is not None else rows.end - rows.begin
    pages = rows.pages[keys.shape[1]]
    found = F.scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        _gather(keys, pages, 1, query.dtype)[:, :, :length],
        _gather(values, pages, 1, query.dtype)[:, :, :length],
        attn_mask=rows.mask,
        is_causal=rows.mask is None,
        scale=scale,
        enable_gqa=True,
    )
    return found[0].transpose(0, 1)
