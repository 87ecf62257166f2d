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
    """Rows [begin, end) of the step: the ids that follow `past` known ones of a sequence."""

    begin: int
    end: int
    past: int
    blocks: torch.Tensor  # [blocks of the sequence], int64


@dataclass(slots=True)
class PagedStep:
    """One step for the attention function: first `num_decodes` rows of one id each, then prefills."""

    keys: list[torch.Tensor]  # per layer [num_blocks, block_size, kv_heads, head_dim]
    values: list[torch.Tensor]
    slots: torch.Tensor  # [rows], int64: block · block_size + offset, where each row's key and value go
    num_decodes: int
    decode_blocks: torch.Tensor | None  # [num_decodes, longest block table], int64, padded with the trash block
    decode_mask: torch.Tensor | None  # [num_decodes, 1, 1, longest · block_size], bool
    prefills: list[Prefill]


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
    keys.flatten(0, 1).index_copy_(0, paged.slots, key[0].transpose(0, 1))
    values.flatten(0, 1).index_copy_(0, paged.slots, value[0].transpose(0, 1))
    parts = []
    if paged.num_decodes:
        parts.append(_decode(query, keys, values, paged, scaling))
    parts += [_prefill(query, key, value, keys, values, prefill, scaling) for prefill in paged.prefills]
    return (parts[0] if len(parts) == 1 else torch.cat(parts))[None], None


AttentionInterface.register(IMPLEMENTATION, paged_attention)


def _decode(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, step: PagedStep, scaling: float | None
) -> torch.Tensor:
    """One query a row. Returns [num_decodes, heads, head_dim]."""
    rows, heads, kv_heads = step.num_decodes, query.shape[1], keys.shape[2]
    gathered_keys = keys[step.decode_blocks].flatten(1, 2).transpose(1, 2)  # [rows, kv_heads, length, head_dim]
    gathered_values = values[step.decode_blocks].flatten(1, 2).transpose(1, 2)
    # The heads of a group share keys: as several queries of one head they need no copies of them.
    grouped = query[0, :, :rows].transpose(0, 1).reshape(rows, kv_heads, heads // kv_heads, -1)
    out = F.scaled_dot_product_attention(
        grouped, gathered_keys, gathered_values, attn_mask=step.decode_mask, scale=scaling
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
    if rows.past == 0:
        own_keys, own_values = key[:, :, rows.begin : rows.end], value[:, :, rows.begin : rows.end]
        out = F.scaled_dot_product_attention(
            queries, own_keys, own_values, is_causal=True, scale=scaling, enable_gqa=True
        )
    else:
        length = rows.past + rows.end - rows.begin
        all_keys = keys[rows.blocks].flatten(0, 1)[:length].transpose(0, 1)[None]
        all_values = values[rows.blocks].flatten(0, 1)[:length].transpose(0, 1)[None]
        mask = torch.ones(queries.shape[2], length, dtype=torch.bool, device=query.device).tril_(rows.past)
        out = F.scaled_dot_product_attention(
            queries, all_keys, all_values, attn_mask=mask, scale=scaling, enable_gqa=True
        )
    return out[0].transpose(0, 1)
