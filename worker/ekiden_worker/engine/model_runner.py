"""Turns the chunks of a step into a batch and runs the model on it."""

import structlog
import torch
from transformers import PreTrainedModel

from ekiden_worker.engine.attention import IMPLEMENTATION, Probe
from ekiden_worker.engine.batch import Batch, Forward
from ekiden_worker.engine.block_manager import TRASH_BLOCK
from ekiden_worker.engine.decoder import Decoder
from ekiden_worker.engine.interface import EngineError, EngineRequest, SamplingParams
from ekiden_worker.engine.kv_cache import CacheShape, KVCache
from ekiden_worker.engine.operations import TorchOperations
from ekiden_worker.engine.scheduler import Chunk
from ekiden_worker.engine.sdpa_attention import SdpaAttention
from ekiden_worker.engine.sequence import Sequence

log = structlog.get_logger()

_LAYER_TYPES = {"full_attention", "sliding_attention"}

# How far our forward pass may be from transformers', ‖ours − theirs‖ / ‖theirs‖: rounding alone stays below.
_FURTHEST = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}


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


def probe_cache_shapes(model: PreTrainedModel) -> list[CacheShape]:
    """The shapes of each layer's key and value, from a forward of one id. Raises EngineError."""
    model.set_attn_implementation(IMPLEMENTATION)
    probe = Probe()
    one = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    with torch.inference_mode():
        model(input_ids=one, position_ids=one, use_cache=False, paged=probe)
    if sorted(probe.shapes) != list(range(len(probe.shapes))) or not probe.shapes:
        raise EngineError("not_supported", f"{type(model).__name__} does not use transformers' attention interface.")
    return [probe.shapes[layer] for layer in range(len(probe.shapes))]


class HuggingFaceForward:
    """A `Forward` by transformers' own code: for every model that uses its attention interface."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> torch.Tensor:
        logits: torch.Tensor = self._model(
            input_ids=batch.ids[None],
            position_ids=batch.positions[None],
            use_cache=False,
            logits_to_keep=batch.last,
            paged=batch.attention,
        ).logits
        return logits[0]


class ModelRunner:
    """Owns the KV cache and runs the model. Engine thread only."""

    def __init__(self, model: PreTrainedModel, cache: KVCache, context_tokens: int) -> None:
        self._cache = cache
        self._device = model.device
        theirs = HuggingFaceForward(model)
        self._forward = self._own_forward(model, context_tokens, theirs) or theirs

    def forward(self, chunks: list[Chunk]) -> torch.Tensor:
        """Compute the chunks, decodes first. Returns logits [chunks, vocab_size] of each chunk's last id."""
        return self._forward(self._batch(chunks))

    def _batch(self, chunks: list[Chunk]) -> Batch:
        ids: list[int] = []
        positions: list[int] = []
        last: list[int] = []
        for chunk in chunks:
            sequence, start = chunk.sequence, chunk.sequence.computed
            ids += sequence.ids[start : start + chunk.count]
            positions += range(start, start + chunk.count)
            last.append(len(ids) - 1)
        attention = SdpaAttention(self._cache, chunks)
        return Batch(self._tensor(ids), self._tensor(positions), self._tensor(last), attention)

    def _own_forward(self, model: PreTrainedModel, context_tokens: int, theirs: Forward) -> Forward | None:
        """Our own forward pass, if it is made for the model and computes the same."""
        try:
            ours = Decoder(model, context_tokens, TorchOperations())
        except ValueError as reason:
            log.info("forward_of_transformers", model=type(model).__name__, reason=str(reason))
            return None
        difference = self._difference(ours, theirs, context_tokens)
        if not difference <= _FURTHEST.get(model.dtype, 0.0):
            log.warning("forward_differs", model=type(model).__name__, difference=difference)
            return None
        return ours

    def _difference(self, ours: Forward, theirs: Forward, context_tokens: int) -> float:
        """‖ours − theirs‖ / ‖theirs‖ of the logits behind a short prompt, in the block that belongs to nobody."""
        prompt = tuple(range(min(self._cache.block_size, context_tokens)))
        sequence = Sequence(EngineRequest("probe", prompt, SamplingParams(max_tokens=1), frozenset()))
        sequence.block_table = [TRASH_BLOCK]
        batch = self._batch([Chunk(sequence, len(prompt))])
        expected = theirs(batch).double()
        return float((ours(batch).double() - expected).norm() / expected.norm())

    def _tensor(self, values: list[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)
