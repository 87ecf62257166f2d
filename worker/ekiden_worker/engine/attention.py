"""Attention over a paged KV cache, plugged into transformers' model code through its attention interface.

The metadata of a step travels as a keyword argument of the model's forward, so several engines can live in one process.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from transformers import AttentionInterface

from ekiden_worker.engine.interface import EngineError

IMPLEMENTATION = "ekiden_paged"

# Arguments with which some models ask for another kind of attention than ours.
_UNSUPPORTED = ("softcap", "s_aux", "attention_bias")


@dataclass(frozen=True, slots=True)
class Prefill:
    """Rows [begin, end) of the step: ids of a sequence that follow those it has in its pages."""

    begin: int
    end: int
    pages: dict[int, torch.Tensor]  # by kv_heads: [kv_heads · blocks of the sequence], int64
    mask: torch.Tensor | None  # [rows, ids so far], bool; None for a sequence's first ids: plainly causal


@dataclass(frozen=True, slots=True)
class PagedStep:
    """One step for the attention function: first `num_decodes` rows of one id each, then prefills.

    What one head keeps of a block is a page: [block_size, head_dim] in one piece, so that gathering is plain copying.
    Numbers of pages and of places in them depend on kv_heads, which may differ from layer to layer.
    """

    keys: list[torch.Tensor]  # per layer [num_blocks, kv_heads, block_size, head_dim]
    values: list[torch.Tensor]
    places: dict[int, torch.Tensor]  # by kv_heads: [rows · kv_heads], int64: where each row's keys and values go
    num_decodes: int
    decode_pages: dict[int, torch.Tensor]  # by kv_heads: [num_decodes · kv_heads · longest block table], int64
    decode_mask: torch.Tensor | None  # [num_decodes, 1, 1, longest · block_size], added to the scores
    prefills: list[Prefill]


def pages_of(blocks: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """The pages of each head, block after block: [..., blocks] → [all · kv_heads]."""
    heads = torch.arange(kv_heads, device=blocks.device)
    return (blocks[..., None, :] * kv_heads + heads[:, None]).flatten()


@dataclass(slots=True)
class Probe:
    """Stands in for a step to learn the shapes of a model's keys and values."""

    shapes: dict[int, tuple[torch.Size, torch.Size]] = field(default_factory=dict)


def paged_attention(
    module: Any,
    query: torch.Tensor,  # [1, heads, rows, head_dim]
    key: torch.Tensor,  # [1, kv_heads, rows, head_dim]
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    paged: PagedStep | Probe | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Write the new keys and values to their slots and attend over each row's whole sequence."""
    if paged is None or any(kwargs.get(name) is not None for name in _UNSUPPORTED):
        raise EngineError(
            "not_supported", f"{type(module).__name__} needs a kind of attention the engine does not have."
        )
    if isinstance(paged, Probe):
        paged.shapes[module.layer_idx] = (key.shape, value.shape)
        return query.transpose(1, 2).contiguous(), None
    keys, values = paged.keys[module.layer_idx], paged.values[module.layer_idx]
    places = paged.places[keys.shape[1]]
    keys.flatten(0, 2).index_copy_(0, places, key[0].transpose(0, 1).flatten(0, 1))
    values.flatten(0, 2).index_copy_(0, places, value[0].transpose(0, 1).flatten(0, 1))
    parts = []
    if paged.num_decodes:
        parts.append(_decode(query, keys, values, paged, scaling))
    parts += [_prefill(query, key, value, keys, values, prefill, scaling) for prefill in paged.prefills]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


AttentionInterface.register(IMPLEMENTATION, paged_attention)


def _gather(cache: torch.Tensor, pages: torch.Tensor, sequences: int) -> torch.Tensor:
    """Whole blocks of each sequence: [sequences, kv_heads, blocks · block_size, head_dim]."""
    return cache.flatten(0, 1).index_select(0, pages).view(sequences, cache.shape[1], -1, cache.shape[3])


def _decode(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, step: PagedStep, scaling: float | None
) -> torch.Tensor:
    """One query a row. Returns [num_decodes, heads, head_dim]."""
    rows, heads, kv_heads = step.num_decodes, query.shape[1], keys.shape[1]
    pages = step.decode_pages[kv_heads]
    # The heads of a group share keys: as several queries of one head they need no copies of them.
    grouped = query[0, :, :rows].transpose(0, 1).reshape(rows, kv_heads, heads // kv_heads, -1)
    out = F.scaled_dot_product_attention(
        grouped, _gather(keys, pages, rows), _gather(values, pages, rows), attn_mask=step.decode_mask, scale=scaling
    )
    return out.reshape(rows, heads, -1)


def _prefill(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    rows: Prefill,
    scaling: float | None,
) -> torch.Tensor:
    """A chunk of one sequence. Returns [rows, heads, head_dim]."""
    queries = query[:, :, rows.begin : rows.end]
    if rows.mask is None:
        all_keys, all_values = key[:, :, rows.begin : rows.end], value[:, :, rows.begin : rows.end]
    else:
        length, pages = rows.mask.shape[1], rows.pages[keys.shape[1]]
        all_keys, all_values = _gather(keys, pages, 1)[:, :, :length], _gather(values, pages, 1)[:, :, :length]
    out = F.scaled_dot_product_attention(
        queries,
        all_keys,
        all_values,
        attn_mask=rows.mask,
        is_causal=rows.mask is None,
        scale=scaling,
        enable_gqa=True,
    )
    return out[0].transpose(0, 1)
