"""Attention over the KV cache: what a step brings with it, and the way in through transformers' attention interface.

The metadata of a step travels as a keyword argument of the model's forward, so several engines can live in one process.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from transformers import AttentionInterface

from ekiden_worker.engine.interface import EngineError

IMPLEMENTATION = "ekiden_paged"

# Arguments with which some models ask for another kind of attention than ours.
_UNSUPPORTED = ("softcap", "s_aux", "attention_bias")


class Attention(Protocol):
    """The attention of one step: knows which rows belong to whom, and where their keys and values are."""

    def write(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> None:
        """Keep the step's keys and values, [rows, kv_heads, head_dim]."""
        ...

    def attend(self, layer: int, query: torch.Tensor, scale: float) -> torch.Tensor:
        """[rows, heads, head_dim] → the same; each row sees its sequence up to itself. After `write`."""
        ...


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
    paged: Attention | Probe | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' models call in place of their own attention. Raises EngineError `not_supported`."""
    if paged is None or any(kwargs.get(name) is not None for name in _UNSUPPORTED):
        raise EngineError(
            "not_supported", f"{type(module).__name__} needs a kind of attention the engine does not have."
        )
    if isinstance(paged, Probe):
        paged.shapes[module.layer_idx] = (key.shape, value.shape)
        # What attention gives has the size of values, which in some models is not that of queries.
        return value.new_zeros(*query.shape[:3], value.shape[3]).transpose(1, 2).contiguous(), None
    paged.write(module.layer_idx, key[0].transpose(0, 1), value[0].transpose(0, 1))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return paged.attend(module.layer_idx, query[0].transpose(0, 1), scale)[None], None


AttentionInterface.register(IMPLEMENTATION, paged_attention)
