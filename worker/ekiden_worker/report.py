"""What a worker says of itself: once when it registers, and with each beat."""

import os
import platform
import socket
import time
from collections import deque
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import ekiden
from ekiden.settings import Settings
from ekiden.store.types import WorkerFigures, WorkerInfo
from ekiden_worker.engine.interface import EngineStats
from ekiden_worker.figures import Figures
from ekiden_worker.gpu import GpuMeter
from ekiden_worker.runtime import Runtime

RATE_S = 2.0
LIBRARIES = ("torch", "transformers", "celery", "redis")


def worker_info(settings: Settings, runtime: Runtime, metrics_port: int = 0) -> WorkerInfo:
    """What stays the same."""
    return WorkerInfo(
        host=socket.gethostname(),
        pid=os.getpid(),
        model=runtime.model,
        context_tokens=runtime.engine.context_tokens,
        max_running=runtime.engine.max_running,
        device=settings.device,
        version=ekiden.__version__,
        slot=settings.worker_slot,
        libraries=" ".join(f"{name}={found}" for name, found in _versions()),
        chaos_drills=int(settings.chaos_drills),
        metrics_port=metrics_port,
    )


def _versions() -> list[tuple[str, str]]:
    found = [("python", platform.python_version())]
    for name in LIBRARIES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue  # another engine needs others
    return found


class Reporter:
    """Turns counts since the start into what happened since the last beat that arrived. Beat thread only."""

    def __init__(self, figures: Figures, device: str) -> None:
        self._figures = figures
        self._gpu = GpuMeter(device)
        self._past: deque[tuple[float, int]] = deque([(time.monotonic(), figures.tokens)])
        self._sent = list(figures.itl_ms.counts)
        self._read = self._sent

    def figures(self, stats: EngineStats) -> WorkerFigures:
        """How the worker does now."""
        pace = self._figures.pace()
        asked = stats.prompt_tokens
        return WorkerFigures(
            tokens_per_s=self._tokens_per_s(),
            kv_usage=stats.held_blocks / max(1, stats.total_blocks),
            prefix_hit_ratio=stats.cached_tokens / asked if asked else None,
            preemptions=stats.preemptions,
            batch_size=round(pace.batch_size) if pace else 0,
            step_ms=round(pace.step_ms, 2) if pace and pace.step_ms is not None else None,
            gpu=self._gpu.read(),
        )

    def token_gaps(self) -> Mapping[int, int]:
        """Times between tokens by bucket, of those that no beat brought to the store yet; see `arrived`."""
        self._read = list(self._figures.itl_ms.counts)
        return {n: now - sent for n, (now, sent) in enumerate(zip(self._read, self._sent, strict=True)) if now > sent}

    def arrived(self) -> None:
        """The store has what was read last."""
        self._sent = self._read

    def _tokens_per_s(self) -> float:
        now_s, tokens = time.monotonic(), self._figures.tokens
        while len(self._past) > 1 and now_s - self._past[0][0] > RATE_S:
            self._past.popleft()
        since_s, before = self._past[0]
        self._past.append((now_s, tokens))
        return round((tokens - before) / max(0.05, now_s - since_s), 1)
