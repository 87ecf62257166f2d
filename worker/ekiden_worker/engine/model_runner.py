"""One forward pass over the chunks of a step."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from ekiden_worker.engine.attention import IMPLEMENTATION, PagedStep, Prefill, Probe, pages_of
from ekiden_worker.engine.block_manager import TRASH_BLOCK
from ekiden_worker.engine.interface import EngineError
from ekiden_worker.engine.scheduler import Chunk

Ids = Sequence[int] | Sequence[list[int]]

_LAYER_TYPES = {"full_attention", "sliding_attention"}


def longest_context(model: PreTrainedModel) -> int:
    """The model's own limit in ids. Raises EngineError for models whose attention the engine does not have.

    Within its window sliding attention is full attention, so a sliding window is a limit of the context.
    """
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not kinds <= _LAYER_TYPES:
        raise EngineError("not_supported", f"{config.model_type} has layers that are not attention: {sorted(kinds)}.")
    limit = int(getattr(config, "max_position_embeddings", 0) or 2048)
    window = getattr(config, "sliding_window", None)
    slides = getattr(config, "use_sliding_window", True) and (
        "sliding_attention" in kinds or not getattr(config, "layer_types", None)
    )
    return min(limit, int(window)) if window and slides else limit


def probe_cache_shapes(model: PreTrainedModel) -> list[tuple[torch.Size, torch.Size]]:
    """Shapes [1, kv_heads, 1, head_dim] of each layer's key and value, from a forward of one id. Raises EngineError."""
    model.set_attn_implementation(IMPLEMENTATION)
    probe = Probe()
    one = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        model(input_ids=one, position_ids=one, use_cache=False, paged=probe)
    if sorted(probe.shapes) != list(range(len(probe.shapes))) or not probe.shapes:
        raise EngineError("not_supported", f"{type(model).__name__} does not use transformers' attention interface.")
    return [probe.shapes[layer] for layer in range(len(probe.shapes))]


def cache_bytes_per_token(model: PreTrainedModel, shapes: list[tuple[torch.Size, torch.Size]]) -> int:
    """Bytes the KV cache needs for one id."""
    return sum(key.numel() + value.numel() for key, value in shapes) * model.dtype.itemsize


def _zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; on the CPU they take memory only once they are written (unlike torch's own, which are written at once)."""
    if device.type != "cpu":
        return torch.zeros(size, dtype=dtype, device=device)
    lazy = np.zeros(math.prod(size) * dtype.itemsize, dtype=np.uint8)
    return torch.from_numpy(lazy).view(dtype).view(size)


class ModelRunner:
    """Owns the KV cache tensors and runs the model. Engine thread only."""

    def __init__(
        self,
        model: PreTrainedModel,
        shapes: list[tuple[torch.Size, torch.Size]],
        num_blocks: int,
        block_size: int,
    ) -> None:
        self._model = model
        self._block_size = block_size

        def cache(shape: torch.Size) -> torch.Tensor:
            return _zeros((num_blocks, shape[1], block_size, shape[3]), model.dtype, model.device)

        self._keys = [cache(key) for key, _ in shapes]
        self._values = [cache(value) for _, value in shapes]
        self._kv_heads = {key[1] for key, _ in shapes}

    @torch.inference_mode()
    def forward(self, chunks: list[Chunk]) -> torch.Tensor:
        """Compute the chunks, decodes first. Returns logits [chunks, vocab_size] of each chunk's last id."""
        ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        last: list[int] = []
        for chunk in chunks:
            sequence, start = chunk.sequence, chunk.sequence.computed
            ids += sequence.ids[start : start + chunk.count]
            positions += range(start, start + chunk.count)
            slots += self._slots(sequence.block_table, start, chunk.count)
            last.append(len(ids) - 1)
        logits: torch.Tensor = self._model(
            input_ids=self._tensor([ids]),
            position_ids=self._tensor([positions]),
            use_cache=False,
            logits_to_keep=self._tensor(last),
            paged=self._step(chunks, slots),
        ).logits
        return logits[0]

    def _step(self, chunks: list[Chunk], slots: list[int]) -> PagedStep:
        decodes = [chunk.sequence for chunk in chunks if chunk.count == 1]
        prefills, row = [], len(decodes)
        for chunk in chunks[len(decodes) :]:
            prefills.append(self._prefill(chunk, row))
            row += chunk.count
        decode_pages, mask = {}, None
        if decodes:
            width = max(len(sequence.block_table) for sequence in decodes)
            padding = [TRASH_BLOCK] * width
            decode_pages = self._pages([(sequence.block_table + padding)[:width] for sequence in decodes])
            mask = self._decode_mask([sequence.computed + 1 for sequence in decodes], width * self._block_size)
        return PagedStep(self._keys, self._values, self._places(slots), len(decodes), decode_pages, mask, prefills)

    def _prefill(self, chunk: Chunk, row: int) -> Prefill:
        past, pages, mask = chunk.sequence.computed, {}, None
        if past:
            pages = self._pages(chunk.sequence.block_table)
            mask = torch.ones(chunk.count, past + chunk.count, dtype=torch.bool, device=self._model.device).tril_(past)
        return Prefill(row, row + chunk.count, pages, mask)

    def _decode_mask(self, lengths: list[int], reach: int) -> torch.Tensor:
        """Zero where a sequence has ids, -inf behind them; a bool mask would be turned into this by every layer."""
        behind = torch.arange(reach, device=self._model.device) >= self._tensor(lengths)[:, None]
        mask = torch.zeros(behind.shape, dtype=self._model.dtype, device=self._model.device)
        return mask.masked_fill_(behind, -torch.inf)[:, None, None]

    def _pages(self, blocks: Ids) -> dict[int, torch.Tensor]:
        table = self._tensor(blocks)
        return {kv_heads: pages_of(table, kv_heads) for kv_heads in self._kv_heads}

    def _places(self, slots: list[int]) -> dict[int, torch.Tensor]:
        size, where = self._block_size, self._tensor(slots)[:, None]
        return {
            kv_heads: (pages_of(where // size, kv_heads).view(-1, kv_heads) * size + where % size).flatten()
            for kv_heads in self._kv_heads
        }

    def _slots(self, block_table: list[int], start: int, count: int) -> list[int]:
        size = self._block_size
        return [block_table[at // size] * size + at % size for at in range(start, start + count)]

    def _tensor(self, values: Ids) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)
