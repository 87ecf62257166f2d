"""The engine: one thread that schedules, runs and hands out, one step after the other."""

import math
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence as AbstractSequence

import structlog
import torch
from transformers import PreTrainedModel

from ekiden_worker.engine.block_manager import BlockManager
from ekiden_worker.engine.commands import Commands
from ekiden_worker.engine.config import EngineConfig
from ekiden_worker.engine.flight import Flight
from ekiden_worker.engine.fp8 import FP8, lacking
from ekiden_worker.engine.interface import (
    EngineError,
    EngineRequest,
    EngineStats,
    Finish,
    Output,
    SamplingParams,
    check_request,
)
from ekiden_worker.engine.kv_cache import KVCache, bytes_per_token
from ekiden_worker.engine.model_runner import (
    ModelRunner,
    longest_context,
    probe_cache_shapes,
    vocabulary_size,
)
from ekiden_worker.engine.open_requests import OpenRequests
from ekiden_worker.engine.scheduler import Budget, Chunk, Scheduler
from ekiden_worker.engine.sequence import Sequence
from ekiden_worker.engine.speculation import Speculation

log = structlog.get_logger()

STOP_TIMEOUT_S = 10.0
FIRST_MEMORY_WAIT_S, MEMORY_WAITS = 0.05, 5  # each twice as long as the one before: 1.6 s in all
CPU_CACHE_BYTES = 1 << 30
# Of what is free when the weights are loaded, what is left for activations and CUDA graphs: the smaller of the two.
CUDA_RESERVE_BYTES, CUDA_RESERVE_SHARE = 3 << 30, 0.15
CPU_BUDGET = Budget(256)
CUDA_BUDGET = Budget(2560, beside=1024, each=16, multiple=256, proposing=512)
CUDA_WARM_UP_TOKENS = (3, 20, 40, 80, 160, 320, 640, 1280, 2600)  # a GPU has other code for each size of a product


class BatchEngine:
    """Continuous batching of a Hugging Face causal LM over a paged KV cache (see `interface.Engine`)."""

    def __init__(self, model: PreTrainedModel, config: EngineConfig) -> None:
        """`model` is in evaluation mode on its device. Raises EngineError `not_supported` for one it cannot serve."""
        self._config = config
        self._vocab_size = vocabulary_size(model)
        self._device = model.device
        self._on_cuda = model.device.type == "cuda"
        self._lookahead = self._on_cuda if config.lookahead is None else config.lookahead
        self._use_device()
        shapes = probe_cache_shapes(model)
        limit = longest_context(model)
        context = min(config.context_tokens or limit, limit)
        kept = FP8 if config.kv_cache_dtype == "fp8" else model.dtype
        if kept == FP8 and (reason := lacking(model.device)):
            raise EngineError("not_supported", f"The KV cache cannot be kept in fp8: {reason}.")
        cache_tokens = config.kv_cache_tokens or self._cache_tokens(bytes_per_token(shapes, kept), context)
        num_blocks = 1 + math.ceil(cache_tokens / config.block_size)
        self._context_tokens = min(context, (num_blocks - 1) * config.block_size)
        self._blocks = BlockManager(num_blocks, config.block_size)
        own = CUDA_BUDGET if self._on_cuda else CPU_BUDGET
        budget = Budget(config.max_batched_tokens) if config.max_batched_tokens else own
        self._speculation = Speculation(config.speculate)
        self._scheduler = Scheduler(self._blocks, config.max_running, budget, self._speculation)
        cache = KVCache.of(shapes, num_blocks, config.block_size, model.dtype, model.device, kept)
        # An id for each answer and each prompt, and those that are proposed.
        most_choices = config.max_running + (budget.proposing if config.speculate else 0)
        self._runner = ModelRunner(model, cache, self._context_tokens, config, most_choices)
        self._commands = Commands()
        self._sequences: dict[str, Sequence] = {}
        self._open = OpenRequests()
        self._flight: Flight | None = None  # the step under way, while a next one is begun
        self._outputs: list[Output] = []
        self._steps = 0
        self._memory_waits = 0  # in a row, at the smallest step
        self._thread: threading.Thread | None = None

    def _cache_tokens(self, token_bytes: int, context: int) -> int:
        if self._device.type == "cpu":
            return max(context, CPU_CACHE_BYTES // token_bytes)
        free, _ = torch.cuda.mem_get_info(self._device)
        tokens = int(free - min(CUDA_RESERVE_BYTES, CUDA_RESERVE_SHARE * free)) // token_bytes
        if tokens < self._config.block_size:
            raise EngineError("not_supported", f"{free >> 20} MiB of GPU memory are left: too little for a KV cache.")
        return tokens

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def max_running(self) -> int:
        return self._config.max_running

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, sink: Callable[[list[Output]], None]) -> None:
        warm = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sink, warm), name="engine", daemon=True)
        self._thread.start()
        while not warm.wait(0.1):
            if not self._thread.is_alive():
                raise EngineError("engine_error", "The engine failed while it warmed up.")

    def submit(self, request: EngineRequest) -> None:
        check_request(request, self._vocab_size, self._context_tokens)
        self._open.add(request.request_id)
        self._commands.put(lambda: self._begin(request))

    def cancel(self, request_id: str) -> None:
        self._commands.put(lambda: self._cancel(request_id))

    def hold(self, held: bool) -> None:
        self._open.hold(held)
        self._commands.put(lambda: None)

    def stop(self) -> None:
        if self._thread is None:
            return
        self._commands.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(STOP_TIMEOUT_S)  # one that hangs in a library call ends with the process

    def stats(self) -> EngineStats:
        proposed, accepted = self._speculation.counts
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting),
            free_blocks=self._blocks.free_blocks,
            total_blocks=self._blocks.num_blocks - 1,
            steps=self._steps,
            preemptions=self._scheduler.preemptions,
            last_step_age_s=self._open.last_step_age_s,
            prompt_tokens=self._scheduler.prompt_tokens,
            cached_tokens=self._scheduler.cached_tokens,
            proposed_tokens=proposed,
            accepted_tokens=accepted,
        )

    def check_integrity(self) -> None:
        """Raise RuntimeError unless every block is accounted for. When idle or from the engine thread."""
        self._blocks.check_integrity([*self._scheduler.running, *self._scheduler.waiting])

    def _run(self, sink: Callable[[list[Output]], None], warm: threading.Event) -> None:
        """Engine thread: commands, a step, its outputs. Without work it waits and uses no CPU."""
        if self._config.threads:
            torch.set_num_threads(self._config.threads)
        self._use_device()
        self._warm_up()
        warm.set()
        stopping = False
        while not stopping:
            stopping = self._commands.take(self._idle)
            if not stopping and self._may_step and not self._step():
                return  # the device is lost: no outputs, so that the jobs move
            if stopping:
                for sequence in list(self._sequences.values()):
                    self._finish(sequence, Finish.CANCELLED)
            if self._outputs:
                outputs, self._outputs = self._outputs, []
                sink(outputs)

    def _idle(self) -> bool:
        """There is nothing to do before the next command."""
        return not self._may_step and not self._outputs

    @property
    def _may_step(self) -> bool:
        return self._flight is not None or (bool(self._sequences) and not self._open.held)

    def _begin(self, request: EngineRequest) -> None:
        sequence = Sequence(request)
        self._sequences[request.request_id] = sequence
        self._scheduler.add(sequence)
        if reason := self._end_of(sequence):
            self._finish(sequence, reason)

    def _cancel(self, request_id: str) -> None:
        if sequence := self._sequences.get(request_id):
            self._finish(sequence, Finish.CANCELLED)

    def _step(self) -> bool:
        """Begin the next step, then hand out the one before it. False when the device itself is lost.

        A step without enough memory is tried again with less in it; any other failure ends the step's requests.
        """
        before, self._flight = self._flight, None
        if before and before.decides_much:
            if not self._land(before):
                return False
            before = None
        chunks = [] if self._open.held else self._scheduler.schedule()
        failure: Exception | None = None
        try:
            begun = self._runner.launch(chunks) if chunks else None
        except Exception as error:  # noqa: BLE001 any failure of model code must end its requests, visibly
            begun, failure = None, error
        if before and not self._land(before):
            return False
        if begun and not self._lookahead:
            if not self._land(begun):
                return False
            begun = None
        self._flight = begun
        if failure and not self._overcome(failure, chunks):
            return False
        self._open.stepped()
        return True

    def _overcome(self, failure: Exception, chunks: list[Chunk]) -> bool:
        """Do what can be done about a step that failed. False when the device itself is lost."""
        if _device_lost(failure):
            log.error("device_lost", error=str(failure))
            return False
        if _out_of_memory(failure) and self._try_with_less(chunks):
            return True
        log.error("step_failed", requests=len(chunks), exc_info=failure)
        for chunk in chunks:
            if self._runs(chunk.sequence):
                message = "The engine failed on this answer."
                self._finish(chunk.sequence, Finish.ERROR, code="engine_error", message=message)
        self._count_step()
        return True

    def _count_step(self) -> None:
        self._memory_waits = 0
        self._steps += 1

    def _runs(self, sequence: Sequence) -> bool:
        """It did not end meanwhile."""
        return self._sequences.get(sequence.request.request_id) is sequence

    def _try_with_less(self, chunks: list[Chunk]) -> bool:
        """After a step without enough memory: whether the next may do better, with less in it or a little later."""
        if self._scheduler.narrow(chunks):
            log.warning("out_of_memory", requests=len(chunks), left=len(self._scheduler.running))
            return True
        if self._memory_waits == MEMORY_WAITS:
            return False
        # Somebody else on this device may give some back.
        time.sleep(FIRST_MEMORY_WAIT_S * 2**self._memory_waits)
        self._memory_waits += 1
        return True

    def _land(self, flight: Flight) -> bool:
        """Wait for a step and hand out its ids. False when the device is lost."""
        try:
            self._collect(flight)
        except RuntimeError as error:  # the device failed later than it was asked: the ids of the step are lost with it
            log.error("device_lost", error=str(error))
            return False
        return True

    def _collect(self, flight: Flight) -> None:
        for chunk, choices in zip(flight.chunks, flight.wait(), strict=True):
            sequence = chunk.sequence
            if not self._runs(sequence):
                continue
            if not chunk.completes:
                self._blocks.seal(sequence)
                continue
            ids = sequence.take(chunk.proposed, choices)
            self._speculation.count(len(chunk.proposed), len(ids) - 1)
            self._blocks.seal(sequence)
            if reason := self._end_of(sequence):
                self._finish(sequence, reason, ids)
            else:
                self._emit(sequence, ids)
        self._count_step()

    @staticmethod
    def _end_of(sequence: Sequence) -> Finish | None:
        request = sequence.request
        if sequence.generated and sequence.ids[-1] in request.stop_ids:
            return Finish.STOP
        return Finish.LENGTH if sequence.generated >= request.params.max_tokens else None

    def _finish(
        self, sequence: Sequence, reason: Finish, ids: AbstractSequence[int] = (), *, code: str = "", message: str = ""
    ) -> None:
        """The one way a request ends: its blocks are freed, its last Output is made."""
        request_id = sequence.request.request_id
        del self._sequences[request_id]
        self._runner.forget(sequence)
        self._scheduler.remove(sequence)
        self._emit(sequence, ids, finish=reason, error_code=code or None, error_message=message or None)
        self._open.discard(request_id)

    def _emit(
        self,
        sequence: Sequence,
        ids: AbstractSequence[int],
        finish: Finish | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> None:
        cached = sequence.cached_tokens if sequence.first else 0
        sequence.first = False
        self._outputs.append(Output(sequence.request.request_id, ids, finish, cached, error_code, error_message))

    def _use_device(self) -> None:
        """Kernels are launched on the thread's own current device."""
        if self._on_cuda:
            torch.cuda.set_device(self._device)

    def _warm_up(self) -> None:
        """Whole prefills and decode steps, so that the first request finds everything compiled and allocated."""
        if self._runner.uses_kernels and self._on_cuda and not self._config.eager:
            self._capture()
        for length in CUDA_WARM_UP_TOKENS if self._on_cuda else (3,):
            prompt = (0,) * max(1, min(length, self._context_tokens - 2))
            self._warm_up_with(EngineRequest("warm-up", prompt, SamplingParams(max_tokens=2), frozenset()))
        self._outputs.clear()
        self._steps = self._scheduler.prompt_tokens = self._scheduler.cached_tokens = 0

    def _capture(self) -> None:
        """Capture CUDA graphs, if the model's code can be captured; a device that is lost shows in the next step."""
        try:
            self._runner.fix_shapes(self._scheduler.budget.most, capture=True)
        except Exception as error:  # noqa: BLE001 (a compiler's errors are of many kinds)
            log.warning("graphs_not_captured", error=str(error))

    def _warm_up_with(self, request: EngineRequest) -> None:
        self._begin(request)
        while self._sequences or self._flight:
            if not self._step():
                raise EngineError("engine_error", "The device failed while the engine warmed up.")
        if any(output.finish is Finish.ERROR for output in self._outputs):
            raise EngineError("engine_error", "The model failed while the engine warmed up.")


def _out_of_memory(error: Exception) -> bool:
    """Neither the CPU's allocator nor Triton's launcher has a type of its own for it."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(said in str(error) for said in ("can't allocate memory", "Triton Error [CUDA]: out of memory"))


def _device_lost(error: Exception) -> bool:
    """A CUDA error other than out-of-memory leaves the process's context unusable."""
    if _out_of_memory(error):
        return False
    lost = getattr(torch, "AcceleratorError", None)
    said = any(name in str(error) for name in ("CUDA error", "Triton Error [CUDA]"))
    return said or (lost is not None and isinstance(error, lost))
