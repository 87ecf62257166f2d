"""The real engine, held to its books: whenever it has nothing left to do, every block must be accounted for.

Loaded by a real worker process with EKIDEN_ENGINE=tests.support.checked_engine:load. What it finds ends the engine's
thread, and with it the process. While the file exists that EKIDEN_TEST_FAULT_FILE names, there is too little memory for
steps of more than two sequences or 32 ids.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from ekiden.settings import Settings
from ekiden_worker.engine.engine import BatchEngine
from ekiden_worker.engine.flight import Flight
from ekiden_worker.engine.interface import EngineRequest, EngineStats, Output
from ekiden_worker.engine.scheduler import Chunk
from ekiden_worker.model import load as load_real
from ekiden_worker.runtime import Runtime


class CheckedEngine:
    """See `interface.Engine`."""

    def __init__(self, engine: BatchEngine) -> None:
        self._engine = engine

    @property
    def context_tokens(self) -> int:
        return self._engine.context_tokens

    @property
    def max_running(self) -> int:
        return self._engine.max_running

    @property
    def alive(self) -> bool:
        return self._engine.alive

    def start(self, sink: Callable[[list[Output]], None]) -> None:
        def checked(outputs: list[Output]) -> None:
            sink(outputs)
            stats = self._engine.stats()
            if not (stats.running or stats.waiting):
                self._engine.check_integrity()

        self._engine.start(checked)

    def submit(self, request: EngineRequest) -> None:
        self._engine.submit(request)

    def cancel(self, request_id: str) -> None:
        self._engine.cancel(request_id)

    def hold(self, held: bool) -> None:
        self._engine.hold(held)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def stop(self) -> None:
        self._engine.stop()


def squeeze(engine: BatchEngine, file: Path) -> None:
    """Let large steps find too little memory while a file exists."""
    launch = engine._runner.launch

    def bounded(chunks: list[Chunk]) -> Flight:
        if file.exists() and (len(chunks) > 2 or sum(chunk.count for chunk in chunks) > 32):
            raise torch.OutOfMemoryError("the test takes it")
        return launch(chunks)

    engine._runner.launch = bounded  # type: ignore[method-assign]


def load(settings: Settings) -> Runtime:
    """What EKIDEN_ENGINE names."""
    runtime = load_real(settings)
    assert isinstance(runtime.engine, BatchEngine)
    if fault := os.environ.get("EKIDEN_TEST_FAULT_FILE"):
        squeeze(runtime.engine, Path(fault))
    return replace(runtime, engine=CheckedEngine(runtime.engine))
