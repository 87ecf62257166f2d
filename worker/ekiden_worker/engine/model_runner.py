"""Turns the chunks of a step into a batch and runs the model on it."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch
from transformers import PreTrainedModel

from ekiden_worker.engine.attention import IMPLEMENTATION, Attention, Probe
from ekiden_worker.engine.batch import Batch, Forward
from ekiden_worker.engine.block_manager import TRASH_BLOCK
from ekiden_worker.engine.chooser import Chooser
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.decoder import Decoder
from ekiden_worker.engine.difference import difference
from ekiden_worker.engine.flight import Flight
from ekiden_worker.engine.fp8 import FP8
from ekiden_worker.engine.inputs import ROW_FIELDS, known_ids, row_fields, uploaded, wanted_rows
from ekiden_worker.engine.interface import EngineError, EngineRequest, SamplingParams
from ekiden_worker.engine.kv_cache import CacheShape, KVCache
from ekiden_worker.engine.operations import Operations, TorchOperations
from ekiden_worker.engine.scheduler import Chunk, choices_of
from ekiden_worker.engine.sdpa_attention import SdpaAttention
from ekiden_worker.engine.sequence import Sequence

if TYPE_CHECKING:
    from ekiden_worker.engine.fixed_steps import DecodeSteps, MixedSteps

log = structlog.get_logger()

_LAYER_TYPES = {"full_attention", "sliding_attention"}

# How far our forward pass may be from transformers', ‖ours − theirs‖ / ‖theirs‖: rounding alone stays below.
_FURTHEST = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1, FP8: 0.15}


def vocabulary_size(model: PreTrainedModel) -> int:
    """How many ids the model knows."""
    return int(model.get_input_embeddings().weight.shape[0])  # type: ignore[index]


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


def _wants_kernels(config: EngineConfig, cache: KVCache) -> bool:
    """Whether Triton's kernels are to compute: asked for, or on a device for them; and they know such a cache."""
    if not cache.even:
        return False
    if config.kernels is not None:
        return config.kernels
    return cache.device.type == "cuda" and find_spec("triton") is not None


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

    def __init__(
        self, model: PreTrainedModel, cache: KVCache, context_tokens: int, config: EngineConfig, choices: int
    ) -> None:
        """A step chooses up to `choices` ids: one for each sequence, and more where some are proposed."""
        self._cache = cache
        self._device = model.device
        self._context_tokens = context_tokens
        self._probe_tokens = min(cache.block_size, context_tokens, vocabulary_size(model))
        self._sampled = torch.zeros(choices, dtype=torch.long, device=self._device)
        theirs = HuggingFaceForward(model)
        self._kernels = _wants_kernels(config, cache) and self._kernels_fit(theirs)
        self._forward = self._own_forward(model, theirs) or theirs
        self._decode: DecodeSteps | None = None
        self._mixed: MixedSteps | None = None
        self._chooser = self._make_chooser(vocabulary_size(model), config.max_running)
        self._most = config.max_running
        self._blocks = -(-context_tokens // cache.block_size)

    @property
    def uses_kernels(self) -> bool:
        """Whether Triton's kernels compute, and shapes can be fixed."""
        return self._kernels

    @torch.inference_mode()
    def fix_shapes(self, most_rows: int, capture: bool) -> None:
        """Prepare steps of fixed shapes with up to `most_rows` rows, as CUDA graphs if `capture`. With kernels only.

        Takes seconds.
        """
        from ekiden_worker.engine.fixed_steps import DecodeSteps, MixedSteps
        from ekiden_worker.engine.triton_chooser import TritonChooser

        if not isinstance(self._chooser, TritonChooser):
            raise TypeError("steps of fixed shapes are made of kernels")
        shared = self._forward, self._chooser, self._cache, self._most, self._blocks, self._sampled
        decode, mixed = DecodeSteps(*shared), MixedSteps(*shared, rows=most_rows)
        if capture:
            pool = torch.cuda.graph_pool_handle()
            mixed.steps.capture(pool)
            decode.steps.capture(pool)
        self._decode, self._mixed = decode, mixed

    @torch.inference_mode()
    def launch(self, chunks: list[Chunk]) -> Flight:
        """Begin a step, decodes first; its sequences count as computed so far from now on.

        When this fails nothing has changed.
        """
        rows, choices = sum(chunk.count for chunk in chunks), list(choices_of(chunks))
        chosen = self._sampled[: len(choices)]
        if self._decode and rows == len(chunks):
            self._decode.run(chunks, choices)
        elif self._mixed and rows <= self._mixed.steps.most:
            self._mixed.run(chunks, choices)
        else:
            self._chooser.choose(self._forward(self._batch(chunks, self._kernels)), choices, chosen)
        flight = self._flight(chunks, chosen)
        self._chooser.remember(choices, chosen)
        row = 0
        for chunk in chunks:
            sequence = chunk.sequence
            sequence.computed += chunk.count
            sequence.pending += chunk.completes
            sequence.row = row
            row += chunk.choices
        return flight

    def forget(self, sequence: Sequence) -> None:
        """A request ended."""
        self._chooser.forget(sequence)

    def _flight(self, chunks: list[Chunk], chosen: torch.Tensor) -> Flight:
        if self._device.type == "cpu":
            return Flight(chunks, chosen.clone(), None)
        ids = torch.empty(len(chosen), dtype=torch.long, pin_memory=True)
        ids.copy_(chosen, non_blocking=True)
        landed = torch.cuda.Event()  # type: ignore[no-untyped-call]
        landed.record()
        return Flight(chunks, ids, landed)

    def _batch(self, chunks: list[Chunk], kernels: bool) -> Batch:
        rows = np.zeros((sum(chunk.count for chunk in chunks), ROW_FIELDS), dtype=np.int32)
        row_fields(chunks, rows)
        fields = uploaded(rows, self._device)
        ids = known_ids(fields[:, 0], fields[:, 2], self._sampled)
        last = uploaded(wanted_rows(chunks), self._device)
        return Batch(ids, fields[:, 1].long(), last.long(), self._attention(chunks, kernels))

    def _attention(self, chunks: list[Chunk], kernels: bool) -> Attention:
        if not kernels:
            return SdpaAttention(self._cache, chunks)
        from ekiden_worker.engine.triton_attention import TritonAttention

        return TritonAttention.of(self._cache, chunks)

    def _operations(self) -> Operations:
        if not self._kernels:
            return TorchOperations()
        from ekiden_worker.engine.triton_attention import TritonOperations

        return TritonOperations()

    def _make_chooser(self, vocab_size: int, most: int) -> Chooser:
        if not self._kernels:
            return Chooser(vocab_size, most, self._device)
        from ekiden_worker.engine.triton_chooser import TritonChooser

        return TritonChooser(vocab_size, most, self._device)

    def _kernels_fit(self, theirs: Forward) -> bool:
        """Whether the kernels run on this device with this model, and attend as torch does."""
        try:
            found = []
            for chunks in self._probes():
                expected = theirs(self._batch(chunks, kernels=False))
                found.append(difference(theirs(self._batch(chunks, kernels=True)), expected))
                found.append(self._chosen_below(expected))
        except Exception as error:  # noqa: BLE001 (a compiler's errors are of many kinds; a lost device shows again)
            log.warning("kernels_do_not_run", error=str(error))
            return False
        return self._near(found, "kernels_differ")

    def _chosen_below(self, logits: torch.Tensor) -> float:
        """How far below the largest logit the kernel's greedy choice is."""
        from ekiden_worker.engine.triton_chooser import FIELDS, TritonChooser

        rows, vocab_size = logits.shape
        chosen = torch.zeros(rows, dtype=torch.long, device=self._device)
        greedy = torch.zeros((rows, FIELDS), dtype=torch.int32, device=self._device)
        TritonChooser(vocab_size, 1, self._device).compute(logits, greedy, chosen)
        return float((logits.amax(-1) - logits.gather(1, chosen[:, None])[:, 0]).max())

    def _own_forward(self, model: PreTrainedModel, theirs: Forward) -> Forward | None:
        """Our own forward pass, if it is made for the model and computes the same."""
        try:
            ours = Decoder(model, self._context_tokens, self._operations())
        except ValueError as reason:
            log.info("forward_of_transformers", model=type(model).__name__, reason=str(reason))
            return None
        batches = [self._batch(chunks, self._kernels) for chunks in self._probes()]
        found = [difference(ours(batch), theirs(batch)) for batch in batches]
        return ours if self._near(found, "forward_differs") else None

    def _probes(self) -> Iterator[list[Chunk]]:
        """A prompt of some ids, and the id that follows, in the block that belongs to nobody."""
        count = self._probe_tokens
        request = EngineRequest("probe", tuple(range(count)), SamplingParams(max_tokens=1), frozenset())
        sequence = Sequence(request)
        sequence.block_table = [TRASH_BLOCK]
        if count > 1:
            yield [Chunk.of(sequence, count - 1)]
            sequence.computed = count - 1
        yield [Chunk.of(sequence, 1)]

    def _near(self, differences: list[float], otherwise: str) -> bool:
        if all(difference <= _FURTHEST.get(self._cache.kept, 0.0) for difference in differences):
            return True
        log.warning(otherwise, differences=differences)
        return False
