"""Decode steps of fixed shapes: each size of a ladder captured once as a CUDA graph, and replayed from then on.

A step of one 7B model is some three hundred kernels. To launch them one by one takes a CPU several times as long as a
GPU takes to run them; a graph is one launch.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog
import torch

from ekiden_worker.engine.batch import Batch, Forward
from ekiden_worker.engine.inputs import ROW_FIELDS, known_ids, row_fields, uploaded
from ekiden_worker.engine.kv_cache import KVCache
from ekiden_worker.engine.scheduler import Chunk
from ekiden_worker.engine.triton_attention import Decodes, TritonAttention

log = structlog.get_logger()

_WARM_RUNS = 2  # what is compiled or allocated at first use must not happen while a graph is captured


@dataclass(frozen=True, slots=True)
class _Rung:
    size: int
    logits: torch.Tensor  # [size, vocab_size], rewritten by each replay
    graph: torch.cuda.CUDAGraph | None


def ladder_sizes(most: int) -> list[int]:
    """Batch sizes up to `most`; a step is filled up to the next one."""
    small = [size for size in (1, 2, 4) if size < most]
    return [*small, *range(8, most, 8), most]


class DecodeLadder:
    """Runs steps in which every sequence has one row. Engine thread only."""

    def __init__(
        self, forward: Forward, cache: KVCache, most_rows: int, most_blocks: int, sampled: torch.Tensor
    ) -> None:
        """`sampled` [>= most_rows], int64: ids of the step before, where this one's are written."""
        self._forward = forward
        self._cache = cache
        self._sampled = sampled
        self._sizes = ladder_sizes(most_rows)
        self._most_blocks = most_blocks
        # Rows of (id, position, source, block table); rows of padding write to the block that belongs to nobody.
        self._inputs = torch.zeros((most_rows, ROW_FIELDS + most_blocks), dtype=torch.int32, device=cache.device)
        self._rungs: dict[int, _Rung] = {}

    def build(self, capture: bool) -> None:
        """Prepare the sizes, the largest first: its memory serves the others. Without `capture` nothing is captured."""
        began = time.monotonic()
        pool = torch.cuda.graph_pool_handle() if capture else None
        for done, size in enumerate(reversed(self._sizes), 1):
            self._rungs[size] = self._captured(size, pool) if capture else self._plain(size)
            if capture and (done % 8 == 0 or done == len(self._sizes)):
                log.info("graphs_captured", done=done, of=len(self._sizes), seconds=round(time.monotonic() - began, 1))

    def run(self, chunks: list[Chunk]) -> torch.Tensor:
        """Logits [chunks, vocab_size], until the next run; the ids of the largest are in `sampled`."""
        count = len(chunks)
        size = next(size for size in self._sizes if size >= count)
        host = np.zeros((size, ROW_FIELDS + self._most_blocks), dtype=np.int32)
        row_fields(chunks, host)
        host[count:, 2] = -1
        for row, chunk in enumerate(chunks):
            table = chunk.sequence.block_table
            host[row, ROW_FIELDS : ROW_FIELDS + len(table)] = table
        self._inputs[:size].copy_(uploaded(host, self._cache.device))
        rung = self._rungs[size]
        if rung.graph is None:
            return self._step(size)[:count]
        rung.graph.replay()
        return rung.logits[:count]

    def _step(self, size: int) -> torch.Tensor:
        rows = self._inputs[:size]
        ids, positions, sources, tables = rows[:, 0], rows[:, 1].long(), rows[:, 2], rows[:, ROW_FIELDS:]
        block_size = self._cache.block_size
        blocks = tables.gather(1, (positions // block_size)[:, None])[:, 0]
        slots = (blocks * block_size + positions % block_size).int()
        attention = TritonAttention(self._cache, slots, Decodes(tables, (positions + 1).int()))
        every = torch.arange(size, device=self._cache.device)
        logits = self._forward(Batch(known_ids(ids, sources, self._sampled), positions, every, attention))
        self._sampled[:size].copy_(logits.argmax(-1))
        return logits

    def _plain(self, size: int) -> _Rung:
        return _Rung(size, self._step(size), None)

    def _captured(self, size: int, pool: Any) -> _Rung:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_RUNS):
                self._step(size)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            logits = self._step(size)
        return _Rung(size, logits, graph)
