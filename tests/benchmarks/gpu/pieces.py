"""The pieces of a step of the workload's model, each as the engine calls it, and how long they take on a device."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import torch

from ekiden_worker.engine.batch import Batch
from ekiden_worker.engine.decoder import Decoder
from ekiden_worker.engine.kernels import attention as kernels
from ekiden_worker.engine.kv_cache import KVCache
from ekiden_worker.engine.triton_attention import Decodes, TritonAttention, TritonOperations
from tests.benchmarks.gpu.workload import Size, model

ROWS = (1, 8, 64, 256, 1024, 2048)
DECODES = ((1, 512), (1, 4000), (8, 1000), (64, 700), (256, 700))  # (sequences, ids of each)
PREFILLS = ((256, 0), (1024, 0), (2048, 0), (1024, 1024))  # (rows, ids before them)
STEPS = ((1, 384), (8, 700), (64, 700), (256, 300))
BLOCK = 32
UNCACHED_BYTES = 1 << 30  # pieces take turns on at least so many, of which no cache keeps anything

Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Piece:
    """One call of a kind; operations and bytes are counted from its shapes, each number once."""

    kind: str
    name: str
    flops: float
    bytes: float
    seconds: float


class Timer:
    """How long a call takes on a device: on a GPU within CUDA graphs, so that launching costs nothing."""

    def __init__(self, device: str, least_s: float) -> None:
        """Each is repeated until it has taken `least_s`."""
        self._cuda = device.startswith("cuda")
        self._least_s = least_s

    def seconds(self, calls: Sequence[Call], least: int = 32) -> float:
        """Of one, on average over all; the fastest of three measurements. A graph has `least` of them or more."""
        if self._cuda:
            calls = list(calls) * ceil(least / len(calls))
        again = self._captured(calls) if self._cuda else _all(calls)
        again()
        self._wait()
        found = []
        for _ in range(3):
            begun, rounds = time.perf_counter(), 0
            while rounds == 0 or time.perf_counter() - begun < self._least_s:
                again()
                rounds += 1
                if rounds % 4 == 0:
                    self._wait()
            self._wait()
            found.append((time.perf_counter() - begun) / rounds / len(calls))
        return min(found)

    def _wait(self) -> None:
        if self._cuda:
            torch.cuda.synchronize()

    @staticmethod
    def _captured(calls: Sequence[Call]) -> Call:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for call in calls[:2]:
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for call in calls:
                call()
        return graph.replay


def _all(calls: Sequence[Call]) -> Call:
    def run() -> None:
        for call in calls:
            call()

    return run


class Pieces:
    """Everything that is measured on one device. On a CPU Triton's interpreter runs the kernels, which says nothing."""

    def __init__(self, device: str, size: Size, timer: Timer, shrink: int = 1) -> None:
        """`shrink` divides numbers of rows and ids, for a try."""
        self._device = torch.device(device)
        self._dtype = torch.float32 if self._device.type == "cpu" else torch.bfloat16
        self._timer = timer
        self._shrink = shrink
        self._config = size.config
        self._heads, self._head = (
            size.config.num_attention_heads,
            size.config.hidden_size // size.config.num_attention_heads,
        )
        self._decoder = Decoder(
            model(device, self._dtype, size), size.config.max_position_embeddings, TritonOperations()
        )

    @torch.inference_mode()
    def copy_bytes_per_s(self) -> float:
        """Read and written by a copy of memory."""
        source = torch.ones(UNCACHED_BYTES * 2 // self._shrink, dtype=torch.uint8, device=self._device)
        target = torch.empty_like(source)
        return 2 * len(source) / self._timer.seconds([lambda: target.copy_(source)])

    @torch.inference_mode()
    def matmul_flops_per_s(self) -> float:
        """Of a product large enough to keep every unit busy."""
        size = 8192 // self._shrink
        a, b = (torch.randn(size, size, device=self._device).to(self._dtype) for _ in range(2))
        return 2 * size**3 / self._timer.seconds([lambda: a @ b])

    @torch.inference_mode()
    def all(self) -> Iterator[Piece]:
        """One after the other."""
        yield from self._products()
        for sequences, ids in DECODES:
            yield self._decode(sequences, max(1, ids // self._shrink))
        for rows, past in PREFILLS:
            yield self._prefill(max(2, rows // self._shrink), past // self._shrink)
        for sequences, ids in STEPS:
            yield self._step(sequences, max(1, ids // self._shrink))

    def _products(self) -> Iterator[Piece]:
        layers = self._decoder._layers
        kinds = {
            "qkv": [layer.qkv for layer in layers],
            "o": [layer.out for layer in layers],
            "gate_up": [layer.gate_up for layer in layers],
            "down": [layer.down for layer in layers],
            "lm_head": [self._decoder._head],
        }
        for kind, products in kinds.items():
            out, size = products[0]._weight.shape  # type: ignore[attr-defined]
            for count in sorted({max(1, rows // self._shrink) for rows in ROWS}):
                rows = torch.randn(count, size, device=self._device).to(self._dtype)
                seconds = self._timer.seconds([_product_call(product, rows) for product in products])
                yield Piece(
                    kind, f"{count}", 2.0 * count * out * size, self._bytes(out * size + count * (out + size)), seconds
                )

    def _decode(self, sequences: int, ids: int) -> Piece:
        rows, lengths = self._queries(sequences), self._ints([ids] * sequences)
        cached = sequences * ids * self._kv_numbers
        caches = self._caches(
            sequences, ids, 1, max(1, min(32, ceil(UNCACHED_BYTES / self._shrink / self._bytes(cached))))
        )
        tables = self._tables(sequences, ids)

        def call(cache: KVCache) -> Call:
            return lambda: kernels.decode(
                rows, cache.keys[0], cache.values[0], tables, lengths, 0.1, torch.empty_like(rows)
            )

        seconds = self._timer.seconds([call(cache) for cache in caches])
        bytes_ = self._bytes(cached + 2 * rows.numel())
        return Piece(
            "decode attention", f"{sequences} × {ids}", self._attention_flops(sequences * ids), bytes_, seconds
        )

    def _prefill(self, count: int, past: int) -> Piece:
        rows = self._queries(count)
        tiles = torch.tensor(kernels.tiles_of(0, count, past, 0), dtype=torch.int32, device=self._device)
        caches = self._caches(1, count + past, 1, 32)
        tables = self._tables(1, count + past)

        def call(cache: KVCache) -> Call:
            return lambda: kernels.prefill(
                rows, cache.keys[0], cache.values[0], tables, tiles, 0.1, torch.empty_like(rows)
            )

        seconds = self._timer.seconds([call(cache) for cache in caches])
        pairs = count * past + count * (count + 1) // 2
        bytes_ = self._bytes((count + past) * self._kv_numbers + 2 * rows.numel())
        name = f"{count} behind {past}" if past else f"{count}"
        return Piece("prefill attention", name, self._attention_flops(pairs), bytes_, seconds)

    def _step(self, sequences: int, ids: int) -> Piece:
        """A whole decode step."""
        layers = self._config.num_hidden_layers
        [cache] = self._caches(sequences, ids, layers, 1)
        tables, lengths = self._tables(sequences, ids), self._ints([ids] * sequences)
        positions = lengths.long() - 1
        at = torch.arange(sequences, device=self._device)
        slots = tables[at, (ids - 1) // BLOCK] * BLOCK + (ids - 1) % BLOCK
        attention = TritonAttention(cache, slots, Decodes(tables, lengths))
        batch = Batch(at % self._config.vocab_size, positions, at, attention)
        seconds = self._timer.seconds([lambda: self._decoder(batch)], least=4)
        weights = self._weights
        flops = 2.0 * sequences * weights + layers * self._attention_flops(sequences * ids)
        bytes_ = self._bytes(weights + layers * sequences * ids * self._kv_numbers)
        return Piece("decode step", f"{sequences} × {ids}", flops, bytes_, seconds)

    @property
    def _weights(self) -> int:
        products = [
            product for layer in self._decoder._layers for product in (layer.qkv, layer.out, layer.gate_up, layer.down)
        ]
        return sum(product._weight.numel() for product in (*products, self._decoder._head))  # type: ignore[attr-defined]

    @property
    def _kv_numbers(self) -> int:
        """Of one id in one layer."""
        return 2 * self._heads * self._head

    def _attention_flops(self, pairs: int) -> float:
        """Of so many pairs of a query and a key, in all heads: their product, and that with the value."""
        return 4.0 * pairs * self._heads * self._head

    def _bytes(self, numbers: int) -> float:
        return float(numbers * self._dtype.itemsize)

    def _queries(self, rows: int) -> torch.Tensor:
        return torch.randn(rows, self._heads, self._head, device=self._device).to(self._dtype)

    def _ints(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self._device)

    def _tables(self, sequences: int, ids: int) -> torch.Tensor:
        """Blocks in a random order, as after some time of service."""
        blocks = ceil(ids / BLOCK)
        order = torch.randperm(sequences * blocks, generator=torch.Generator().manual_seed(1)) + 1
        return order.int().view(sequences, blocks).to(self._device)

    def _caches(self, sequences: int, ids: int, layers: int, count: int) -> list[KVCache]:
        shape = torch.Size((1, self._heads, 1, self._head))
        blocks = 1 + sequences * ceil(ids / BLOCK)
        shapes = [(shape, shape)] * layers
        made = [KVCache.of(shapes, blocks, BLOCK, self._dtype, self._device) for _ in range(count)]
        for cache in made:
            for pages in (*cache.keys, *cache.values):
                pages.normal_()  # zeros would cost units less power, and so let them run faster
        return made


def _product_call(product: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> Call:
    return lambda: product(rows)
