"""Our own forward pass for models of Llama's shape: the same numbers as transformers', in fewer and larger steps.

Queries, keys and values are one product, gates and ups another; nothing is computed that inference does not need. The
weights stay those of transformers' model, which can go on computing beside it.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own convention)
from transformers import PreTrainedModel

from ekiden_worker.engine.batch import Batch
from ekiden_worker.engine.linears import OneRow, Product, product_of
from ekiden_worker.engine.operations import HeadNorms, Heads, Norm, Operations, Rotation

# Models whose code in transformers computes what is computed here; `ModelRunner` compares before it believes it.
_MODEL_TYPES = frozenset({"llama", "mistral", "qwen2", "qwen3"})

# Kinds of rotary embedding that turn each position by the same angles whatever the length of the text is.
_STEADY_ROTATIONS = frozenset({"default", "linear", "llama3", "yarn"})


@dataclass(frozen=True, slots=True)
class _Layer:
    before_attention: Norm
    qkv: Product
    head_norms: HeadNorms | None
    out: Product
    before_mlp: Norm
    gate_up: Product
    down: Product
    scale: float


class Decoder:
    """A `Forward` (see batch.py) of the four model types above. Engine thread only."""

    def __init__(self, model: PreTrainedModel, context_tokens: int, operations: Operations) -> None:
        """Raises ValueError for a model of another shape."""
        _check(model)
        body, head = _parts(model)
        self._operations = operations
        self._embedding: torch.Tensor = body.embed_tokens.weight
        self._heads = _heads(body.layers[0].self_attn)
        self._layers = [_layer(layer, operations.one_row) for layer in body.layers]
        self._norm = _norm(body.norm)
        self._head = _product(head, one_row=operations.one_row)
        positions = torch.arange(context_tokens, device=model.device)[None]
        # cos and sin repeat themselves in the second half.
        self._cos, self._sin = (
            half[0, :, : self._heads.size // 2].contiguous()
            for half in body.rotary_emb(self._embedding[:1].float(), positions)
        )
        if self._cos.shape[1] * 2 != self._heads.size:
            raise ValueError("only a part of each head is rotated")
        self._cos, self._sin = self._cos.to(model.dtype), self._sin.to(model.dtype)

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> torch.Tensor:
        """Logits [choices, vocab_size] of the rows that are wanted."""
        do = self._operations
        stream = F.embedding(batch.ids, self._embedding)
        rotation = Rotation(self._cos[batch.positions], self._sin[batch.positions])
        more: torch.Tensor | None = None
        for number, layer in enumerate(self._layers):
            rows = layer.qkv(do.add_norm(stream, more, layer.before_attention))
            if layer.head_norms:
                rows = self._norm_heads(rows, layer.head_norms)
            query = do.place(rows, self._heads, rotation, number, batch.attention)
            found = batch.attention.attend(number, query, layer.scale)
            rows = do.add_norm(stream, layer.out(found.flatten(1)), layer.before_mlp)
            more = layer.down(do.gate(layer.gate_up(rows)))
        wanted = None if more is None else more[batch.last]
        return self._head(do.add_norm(stream[batch.last], wanted, self._norm))

    def _norm_heads(self, rows: torch.Tensor, norms: HeadNorms) -> torch.Tensor:
        heads = self._heads
        split = rows.view(-1, heads.query + 2 * heads.kv, heads.size)
        query, key, value = torch.split(split, [heads.query, heads.kv, heads.kv], dim=1)
        parts = (self._operations.norm(query, norms.query), self._operations.norm(key, norms.key), value)
        return torch.cat(parts, dim=1).flatten(1)


def _check(model: PreTrainedModel) -> None:
    config: Any = model.config
    if config.model_type not in _MODEL_TYPES or getattr(config, "hidden_act", None) != "silu":
        raise ValueError(f"{config.model_type} is another kind of model")
    kind = getattr(_parts(model)[0].rotary_emb, "rope_type", None)
    if kind not in _STEADY_ROTATIONS:
        raise ValueError(f"its rotary embedding is of the type {kind}")


def _parts(model: Any) -> tuple[Any, Any]:
    return model.model, model.lm_head


def _product(*linears: Any, one_row: OneRow | None) -> Product:
    product = product_of(*linears, one_row=one_row)
    if product is None:
        raise ValueError("its linear layers are not plain ones")
    return product


def _norm(module: Any) -> Norm:
    return Norm(module.weight, module.variance_epsilon)


def _heads(attention: Any) -> Heads:
    config = attention.config
    return Heads(config.num_attention_heads, config.num_key_value_heads, attention.head_dim)


def _layer(layer: Any, one_row: OneRow | None) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    norms = hasattr(attention, "q_norm")
    return _Layer(
        before_attention=_norm(layer.input_layernorm),
        qkv=_product(attention.q_proj, attention.k_proj, attention.v_proj, one_row=one_row),
        head_norms=HeadNorms(_norm(attention.q_norm), _norm(attention.k_norm)) if norms else None,
        out=_product(attention.o_proj, one_row=one_row),
        before_mlp=_norm(layer.post_attention_layernorm),
        gate_up=_product(mlp.gate_proj, mlp.up_proj, one_row=one_row),
        down=_product(mlp.down_proj, one_row=one_row),
        scale=attention.scaling,
    )
