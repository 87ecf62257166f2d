"""vLLM as the engine, where it is installed (the extra `vllm`): EKIDEN_ENGINE=ekiden_worker.vllm_engine:load.

Prompts, text and jobs are the same as with our own engine; what generates is not. What vLLM does not promise:

* The ids of one request are not those of our own engine. They depend on the batch a little: at temperature 0 in float32
  a choice is the best id or one that ties with it, in shorter numbers near ties are more.
* An answer that moved to another worker goes on with the same random numbers only where vLLM chooses by seed and
  position (its model runner V2, on CUDA). Its older runner, which serves CPUs, begins them anew. At
  temperature 0 a move changes nothing.
* A temperature between 0 and 0.01 counts as 0.01; one above 2 is refused.
* A step without enough memory is not tried again with less. Whatever a step raises ends the engine, and the jobs move.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from transformers import GenerationConfig

from ekiden.settings import Settings
from ekiden_worker.engine.commands import Commands
from ekiden_worker.engine.interface import (
    EngineError,
    EngineRequest,
    EngineStats,
    Finish,
    Output,
    SamplingParams,
    check_request,
)
from ekiden_worker.engine.open_requests import OpenRequests
from ekiden_worker.model_logs import quiet_libraries
from ekiden_worker.model_parts import ModelParts, read_parts
from ekiden_worker.runtime import ModelError, Runtime, first_line
from ekiden_worker.vllm_options import VllmOptions, build, sampling

if TYPE_CHECKING:
    import vllm

log = structlog.get_logger()

STOP_TIMEOUT_S = 10.0
FINISHES = {"stop": Finish.STOP, "length": Finish.LENGTH}
WARM_UP = "warm-up"


def load(settings: Settings) -> Runtime:
    """Read the tokenizer, and let vLLM read the weights. Raises ModelError."""
    quiet_libraries()
    _check(settings)
    parts = read_parts(settings)
    return parts.runtime(settings, lambda: VllmEngine(_options(settings, parts)), _generation(parts))


@dataclass(slots=True)
class _Running:
    request: EngineRequest
    params: "vllm.SamplingParams"
    first: bool = True  # nothing was reported yet


class _Figures:
    """One of vLLM's stat loggers: keeps what it tells after each step."""

    def __init__(self) -> None:
        self.running = 0
        self.preemptions = 0
        self.used = 0.0  # of the KV cache's blocks, the share that requests hold

    def record(self, scheduler_stats: Any, iteration_stats: Any, **_others: Any) -> None:
        if scheduler_stats is not None:
            self.running = scheduler_stats.num_running_reqs
            self.used = scheduler_stats.kv_cache_usage
        if iteration_stats is not None:
            self.preemptions += iteration_stats.num_preempted_reqs

    def log(self) -> None:
        """Nothing: our own lines and metrics tell it."""

    def log_engine_initialized(self) -> None:
        """Nothing, see `log`."""


class VllmEngine:
    """vLLM's engine, stepped by a thread of this process (see `interface.Engine`).

    The thread builds it too: vLLM keeps its CUDA stream and its OpenMP threads by thread.
    """

    def __init__(self, options: VllmOptions) -> None:
        """Load the weights. Raises EngineError `not_supported`, and whatever vLLM raises for a broken model."""
        self._commands = Commands()
        self._requests: dict[str, _Running] = {}
        self._open = OpenRequests()
        self._outputs: list[Output] = []
        self._figures = _Figures()
        self._steps = self._prompt_tokens = self._cached_tokens = 0
        self._sink: Callable[[list[Output]], None] = lambda _outputs: None
        built: Future[vllm.LLMEngine] = Future()
        self._thread = threading.Thread(target=self._run, args=(options, built), name="engine", daemon=True)
        self._thread.start()
        engine = built.result()
        self._vocab_size: int = engine.model_config.get_vocab_size()
        self._context_tokens: int = engine.model_config.max_model_len
        self._max_running: int = engine.vllm_config.scheduler_config.max_num_seqs
        self._total_blocks: int = engine.vllm_config.cache_config.num_gpu_blocks - 1  # one is a place for padding

    @property
    def context_tokens(self) -> int:
        return self._context_tokens

    @property
    def max_running(self) -> int:
        return self._max_running

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def start(self, sink: Callable[[list[Output]], None]) -> None:
        warm = threading.Event()

        def begin() -> None:
            self._warm_up()
            self._sink = sink
            warm.set()

        self._commands.put(begin)
        while not warm.wait(0.1):
            if not self._thread.is_alive():
                raise EngineError("engine_error", "The engine failed while it warmed up.")

    def submit(self, request: EngineRequest) -> None:
        check_request(request, self._vocab_size, self._context_tokens)
        running = _Running(request, sampling(request, self._vocab_size))
        self._open.add(request.request_id)
        self._commands.put(lambda: self._begin(running))

    def cancel(self, request_id: str) -> None:
        self._commands.put(lambda: self._cancel(request_id))

    def hold(self, held: bool) -> None:
        self._open.hold(held)
        self._commands.put(lambda: None)

    def stop(self) -> None:
        self._commands.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(STOP_TIMEOUT_S)  # one that hangs in a library call ends with the process

    def stats(self) -> EngineStats:
        known, figures = len(self._open), self._figures
        running = min(known, figures.running)  # as of the last step, which may have ended some
        held = round(self._total_blocks * figures.used) if known else 0
        return EngineStats(
            running=running,
            waiting=known - running,
            free_blocks=self._total_blocks - held,
            total_blocks=self._total_blocks,
            steps=self._steps,
            preemptions=figures.preemptions,
            last_step_age_s=self._open.last_step_age_s,
            prompt_tokens=self._prompt_tokens,
            cached_tokens=self._cached_tokens,
        )

    def _run(self, options: VllmOptions, built: "Future[vllm.LLMEngine]") -> None:
        """Engine thread: vLLM is built, then commands, a step, its outputs. Without work it waits and uses no CPU."""
        try:
            self._engine = build(options, lambda _config, _index: self._figures)
        except BaseException as error:  # noqa: BLE001 (it is raised where the engine was asked for)
            built.set_exception(error)
            return
        built.set_result(self._engine)
        try:
            self._serve()
        except Exception:  # no outputs, so that the jobs move
            log.exception("engine_failed")
        del self._engine  # with its memory

    def _serve(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._commands.take(self._idle)
            if not stopping and self._may_step:
                self._step()
            if stopping:
                for running in list(self._requests.values()):
                    self._abort(running)
            if self._outputs:
                outputs, self._outputs = self._outputs, []
                self._sink(outputs)

    def _idle(self) -> bool:
        """There is nothing to do before the next command."""
        return not self._may_step and not self._outputs

    @property
    def _may_step(self) -> bool:
        return bool(self._requests) and not self._open.held

    def _begin(self, running: _Running) -> None:
        from vllm.exceptions import VLLMClientError
        from vllm.inputs import tokens_input

        request = running.request
        self._requests[request.request_id] = running
        if reason := _end_of(request):
            self._finish(running, reason)
            return
        prompt = tokens_input([*request.prompt_ids, *request.generated_ids])
        try:
            self._engine.add_request(request.request_id, prompt, running.params)
        except (VLLMClientError, ValueError) as error:  # nothing was queued
            log.error("request_refused", error=first_line(error))
            self._fail(running)

    def _cancel(self, request_id: str) -> None:
        if running := self._requests.get(request_id):
            self._abort(running)

    def _abort(self, running: _Running) -> None:
        self._engine.abort_request([running.request.request_id])
        self._finish(running, Finish.CANCELLED)

    def _step(self) -> None:
        for output in self._engine.step():
            if running := self._requests.get(output.request_id):
                self._hand_out(running, output)
        self._steps += 1
        self._open.stepped()

    def _hand_out(self, running: _Running, output: "vllm.RequestOutput") -> None:
        completion = output.outputs[0]
        ids, cached = tuple(completion.token_ids), 0
        if running.first:
            cached = output.num_cached_tokens or 0
            self._prompt_tokens += len(running.request.prompt_ids) + len(running.request.generated_ids)
            self._cached_tokens += cached
        if completion.finish_reason is None:
            self._emit(running, Output(running.request.request_id, ids, None, cached))
        elif reason := FINISHES.get(completion.finish_reason):
            self._finish(running, reason, ids, cached)
        else:
            log.error("request_failed", reason=completion.finish_reason)
            self._fail(running)

    def _fail(self, running: _Running) -> None:
        message = "The engine failed on this answer."
        output = Output(running.request.request_id, (), Finish.ERROR, 0, "engine_error", message)
        self._close(running, output)

    def _finish(self, running: _Running, reason: Finish, ids: tuple[int, ...] = (), cached: int = 0) -> None:
        self._close(running, Output(running.request.request_id, ids, reason, cached))

    def _close(self, running: _Running, output: Output) -> None:
        """The one way a request ends."""
        del self._requests[output.request_id]
        self._emit(running, output)
        self._open.discard(output.request_id)

    def _emit(self, running: _Running, output: Output) -> None:
        running.first = False
        self._outputs.append(output)

    def _warm_up(self) -> None:
        """A prefill and a decode step; vLLM itself has compiled and captured what it wants to."""
        request = EngineRequest(WARM_UP, (0,) * min(3, self._context_tokens - 2), SamplingParams(2), frozenset())
        self._begin(_Running(request, sampling(request, self._vocab_size)))
        while self._requests:
            self._step()
        failed = any(output.finish is Finish.ERROR for output in self._outputs)
        self._outputs.clear()
        self._steps = self._prompt_tokens = self._cached_tokens = 0
        if failed:
            raise EngineError("engine_error", "The model failed while the engine warmed up.")


def _end_of(request: EngineRequest) -> Finish | None:
    """An answer that was whole already."""
    if request.generated_ids and request.generated_ids[-1] in request.stop_ids:
        return Finish.STOP
    return Finish.LENGTH if len(request.generated_ids) >= request.params.max_tokens else None


def _check(settings: Settings) -> None:
    """Raise ModelError for what only our own engine does: nobody should believe that vLLM did it."""
    usual = {"quantization": "none", "kv_cache_dtype": "auto", "speculate": "off"}
    for name, value in usual.items():
        if (given := getattr(settings, name)) != value:
            raise ModelError(f"EKIDEN_{name.upper()}={given} is for Ekiden's own engine; vLLM is not told of it.")


def _options(settings: Settings, parts: ModelParts) -> VllmOptions:
    return VllmOptions(
        model=str(parts.path),
        device=parts.device,
        dtype=parts.dtype(settings),
        max_running=settings.max_running,
        context_tokens=settings.context_tokens,
        kv_cache_tokens=settings.kv_cache_tokens,
        eager=settings.eager,
    )


def _generation(parts: ModelParts) -> GenerationConfig:
    """What the model's files say of its end ids."""
    try:
        return GenerationConfig.from_pretrained(parts.path)
    except OSError:  # it has no generation_config.json
        return GenerationConfig.from_model_config(parts.config)
