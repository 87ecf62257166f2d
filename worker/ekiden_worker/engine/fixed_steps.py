"""Steps of fixed shapes: each size is captured once as a CUDA graph, and replayed from then on.

A step of a 7B model is some three hundred kernels. To launch them one by one takes a CPU longer than a GPU takes to run
them, unless hundreds of prompt tokens are in the step; a graph is one launch.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import structlog
import torch

from ekiden_worker.engine.batch import Batch, Forward
from ekiden_worker.engine.chooser import Choices
from ekiden_worker.engine.inputs import Array, known_ids, row_fields, slots_of, wanted_rows
from ekiden_worker.engine.kernels.attention import QUERY_TILE
from ekiden_worker.engine.kv_cache import KVCache
from ekiden_worker.engine.scheduler import Chunk
from ekiden_worker.engine.triton_attention import Decodes, Prefills, TritonAttention, tiles_of_chunks
from ekiden_worker.engine.triton_chooser import FIELDS, TritonChooser

log = structlog.get_logger()

_WARM_RUNS = 2  # what is compiled or allocated at first use must not happen while a graph is captured


def decode_sizes(most: int) -> list[int]:
    """Batch sizes up to `most`; a step is filled up to the next one."""
    small = [size for size in (1, 2, 4) if size < most]
    return [*small, *range(8, most, 8), most]


def mixed_sizes(most: int, *, proposing: bool = False) -> list[int]:
    """Numbers of rows of a step with prompts, or with proposed ids where there are any, up to `most`."""
    small = [size for size in ((8, 16, 24, 32, 48, 64, 96, 128) if proposing else (64, 128)) if size < most]
    return [*small, *range(256, most, 256), most]


class Inputs:
    """Arrays of int32 that a step reads, in one piece of device memory that is written anew for each step."""

    def __init__(self, device: torch.device, **shapes: tuple[int, ...]) -> None:
        self._shapes = shapes
        self._device = torch.zeros(sum(_numbers(shape) for shape in shapes.values()), dtype=torch.int32, device=device)
        self.on_device = {name: self._device[part].view(shapes[name]) for name, part in self._parts()}

    def _parts(self) -> Iterable[tuple[str, slice]]:
        begin = 0
        for name, shape in self._shapes.items():
            yield name, slice(begin, begin + _numbers(shape))
            begin += _numbers(shape)

    def write(self, fill: Callable[[dict[str, Array]], None]) -> None:
        """Have `fill` write into zeroed arrays of the same names, and upload them; does not wait for a CUDA device."""
        host = np.zeros(len(self._device), dtype=np.int32)
        fill({name: host[part].reshape(self._shapes[name]) for name, part in self._parts()})
        given = torch.from_numpy(host)
        self._device.copy_(given.pin_memory() if self._device.is_cuda else given, non_blocking=True)


class FixedSteps:
    """Steps of one kind in some sizes. Engine thread only."""

    def __init__(self, name: str, sizes: Sequence[int], compute: Callable[[int], None]) -> None:
        """`compute` runs a step of a size on its static inputs."""
        self._name = name
        self._sizes = sizes
        self._compute = compute
        self._captured: dict[int, torch.cuda.CUDAGraph] = {}

    @property
    def most(self) -> int:
        """The largest size."""
        return self._sizes[-1]

    def size_for(self, rows: int) -> int:
        """The smallest size for so many rows."""
        return next(size for size in self._sizes if size >= rows)

    def capture(self, pool: Any) -> None:
        """Capture every size, the largest first: its memory, in `pool`, serves the others. Takes seconds."""
        began = time.monotonic()
        for done, size in enumerate(reversed(self._sizes), 1):
            self._captured[size] = self._capture(size, pool)
            if done % 8 == 0 or done == len(self._sizes):
                seconds = round(time.monotonic() - began, 1)
                log.info("graphs_captured", steps=self._name, done=done, of=len(self._sizes), seconds=seconds)

    def run(self, size: int) -> None:
        """Begin a step of a size."""
        if size in self._captured:
            self._captured[size].replay()
        else:
            self._compute(size)

    def _capture(self, size: int, pool: Any) -> torch.cuda.CUDAGraph:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_RUNS):
                self._compute(size)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # What other threads of the process ask of the device meanwhile is none of the graph's concern.
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._compute(size)
        return graph


class DecodeSteps:
    """Steps in which every sequence has one row."""

    def __init__(
        self, forward: Forward, chooser: TritonChooser, cache: KVCache, most: int, blocks: int, sampled: torch.Tensor
    ) -> None:
        """Up to `most` sequences of `blocks` blocks each.

        `sampled` [>= most], int64: ids of the step before, where this one's are written.
        """
        self._forward = forward
        self._chooser = chooser
        self._cache = cache
        self._sampled = sampled
        self._inputs = Inputs(cache.device, fields=(most, 3), tables=(most, blocks), choices=(most, FIELDS))
        self.steps = FixedSteps("decode", decode_sizes(most), self._compute)

    def run(self, chunks: list[Chunk], choices: Choices) -> None:
        """Compute a step; its ids are in `sampled` until the next."""

        def fill(arrays: dict[str, Array]) -> None:
            arrays["fields"][:, 2] = -1  # padding: position 0 of the block that belongs to nobody
            row_fields(chunks, arrays["fields"])
            _fill_tables(chunks, arrays["tables"])
            self._chooser.fill(choices, arrays["choices"])

        self._inputs.write(fill)
        self.steps.run(self.steps.size_for(len(chunks)))

    def _compute(self, size: int) -> None:
        fields, tables = self._inputs.on_device["fields"][:size], self._inputs.on_device["tables"][:size]
        ids, positions, sources = fields[:, 0], fields[:, 1].long(), fields[:, 2]
        block_size = self._cache.block_size
        blocks = tables.gather(1, (positions // block_size)[:, None])[:, 0]
        slots = (blocks * block_size + positions % block_size).int()
        attention = TritonAttention(self._cache, slots, Decodes(tables, (positions + 1).int()))
        every = torch.arange(size, device=self._cache.device)
        logits = self._forward(Batch(known_ids(ids, sources, self._sampled), positions, every, attention))
        self._chooser.compute(logits, self._inputs.on_device["choices"][:size], self._sampled[:size])


class MixedSteps:
    """Steps with chunks of prompts or with proposed ids, and sequences that decode beside them."""

    def __init__(
        self,
        forward: Forward,
        chooser: TritonChooser,
        cache: KVCache,
        most: int,
        blocks: int,
        sampled: torch.Tensor,
        rows: int,
    ) -> None:
        """Up to `rows` rows of up to `most` sequences of `blocks` blocks each; `sampled` as in `DecodeSteps`.

        Where `sampled` has room for more ids than there are sequences, some of the rows may be proposed ids.
        """
        self._forward = forward
        self._chooser = chooser
        self._cache = cache
        self._sampled = sampled
        self._most = most
        self._choices = len(sampled)
        self._inputs = Inputs(
            cache.device,
            fields=(rows, 3),
            slots=(rows,),
            last=(self._choices,),
            lengths=(most,),
            tiles=(rows // QUERY_TILE + most, 4),
            decodes=(most, blocks),
            prefills=(most, blocks),
            choices=(self._choices, FIELDS),
        )
        self.steps = FixedSteps("mixed", mixed_sizes(rows, proposing=self._choices > most), self._compute)

    def run(self, chunks: list[Chunk], choices: Choices) -> None:
        """Compute a step; its ids are in `sampled` until the next."""
        counts, last = [chunk.count for chunk in chunks], wanted_rows(chunks)
        rows, split = sum(counts), counts.count(1)

        def fill(arrays: dict[str, Array]) -> None:
            arrays["fields"][:, 2] = -1
            row_fields(chunks, arrays["fields"])
            arrays["slots"][:rows] = slots_of(chunks, self._cache.block_size)
            arrays["last"][: len(last)] = last
            arrays["lengths"][:split] = [chunk.sequence.computed + 1 for chunk in chunks[:split]]
            tiles = tiles_of_chunks(chunks[split:], split)
            arrays["tiles"][: len(tiles)] = tiles
            _fill_tables(chunks[:split], arrays["decodes"])
            _fill_tables(chunks[split:], arrays["prefills"])
            self._chooser.fill(choices, arrays["choices"])

        self._inputs.write(fill)
        self.steps.run(self.steps.size_for(rows))

    def _compute(self, size: int) -> None:
        given = self._inputs.on_device
        fields, decodes, choices = given["fields"][:size], min(size, self._most), min(size, self._choices)
        prefills = max(1, min(size // 2, self._most))  # chunks of one row are among the decodes
        # Rows that do not decode have the length 0, and are written anew by the prefill.
        attention = TritonAttention(
            self._cache,
            given["slots"][:size],
            Decodes(given["decodes"][:decodes], given["lengths"][:decodes]),
            Prefills(given["prefills"][:prefills], given["tiles"][: size // QUERY_TILE + prefills]),
        )
        ids = known_ids(fields[:, 0], fields[:, 2], self._sampled)
        logits = self._forward(Batch(ids, fields[:, 1].long(), given["last"][:choices].long(), attention))
        self._chooser.compute(logits, given["choices"][:choices], self._sampled[:choices])


def _fill_tables(chunks: Sequence[Chunk], into: Array) -> None:
    for row, chunk in enumerate(chunks):
        table = chunk.sequence.block_table
        into[row, : len(table)] = table


def _numbers(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))
