"""From what the store says to what the admin API answers; no I/O."""

from itertools import pairwise
from typing import Any

import msgspec

from ekiden.jobs import ENDED, State
from ekiden.protocol import JobRequest, Timings, Usage
from ekiden.store.fleet import LiveWorker
from ekiden.store.operator import LiveReplica, Overview
from ekiden.store.records import JobRecord
from ekiden.store.types import REPLICA_LEASE_MS
from ekiden_api.admin.shapes import (
    AttemptView,
    JobRow,
    JobView,
    Latency,
    ModelView,
    OverviewView,
    ParamsView,
    Rates,
    ReplicaView,
    StoreView,
    TextView,
    WorkerView,
)


def worker_view(worker: LiveWorker) -> WorkerView:
    """A worker, with what it said at its last beat."""
    known = {name: getattr(worker, name) for name in SAME_OF_WORKER}
    figures = msgspec.structs.asdict(worker.figures)
    libraries = dict(pair.split("=", 1) for pair in worker.libraries.split())
    return WorkerView(
        **known,
        **figures,
        state="leaving" if worker.state == "leaving" else "draining" if worker.drain else "ready",
        libraries=libraries,
        metrics_port=worker.metrics_port or None,
        chaos_drills=bool(worker.chaos_drills),
    )


SAME_OF_WORKER = (
    "incarnation",
    "host",
    "pid",
    "slot",
    "model",
    "device",
    "version",
    "context_tokens",
    "max_running",
    "running",
    "waiting",
    "registered",
    "beat",
    "lease_ms_left",
)


def replica_view(replica: LiveReplica) -> ReplicaView:
    """An API process."""
    seen_ms = replica.lease_ends_ms - REPLICA_LEASE_MS
    return ReplicaView(id=replica.id, seen_ms=seen_ms, **msgspec.structs.asdict(replica.info))


def overview_view(found: Overview, rates: Rates, latency: Latency, store: StoreView) -> OverviewView:
    """How everything stands."""
    workers = sorted(found.workers, key=lambda worker: (worker.host, worker.slot, worker.registered))
    models = [
        ModelView(
            model=queue.model,
            queued=queue.queued,
            paused=queue.paused,
            context_tokens=queue.context_tokens,
            workers=sum(worker.model == queue.model for worker in workers),
        )
        for queue in sorted(found.models, key=lambda queue: queue.model)
    ]
    return OverviewView(
        now_ms=found.now_ms,
        states=found.states,
        models=models,
        rates=rates,
        latency=latency,
        workers=[worker_view(worker) for worker in workers],
        replicas=[replica_view(replica) for replica in sorted(found.replicas, key=lambda r: (r.info.host, r.info.pid))],
        store=store,
    )


def job_row(record: JobRecord) -> JobRow:
    """A job as a row of the list."""
    return JobRow(**_row(record))


def _row(record: JobRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in SAME_OF_JOB}
    running = record.state is State.RUNNING
    asked = "cancel" if record.cancel_asked else "park" if record.park_asked else None
    # A job that waits or is held has no worker; that of any other made its last attempt.
    last = record.attempts[-1] if record.attempts and (record.owner or record.state in ENDED) else None
    worker = last.worker if last else None
    name = last.name if last and last.name != ":" else None  # it had no record any more when it took the job
    return {**row, "worker": worker, "worker_name": name, "asked": asked if running else None}


SAME_OF_JOB = tuple(name for name in JobRow.__struct_fields__ if name not in ("worker", "worker_name", "asked"))


def job_view(
    record: JobRecord, request: JobRequest | None, watchers: int, position: int | None, now_ms: int, text: TextView
) -> JobView:
    """Everything about a job."""
    ends = [attempt.tokens for attempt in record.attempts[1:]] + [record.cursor]
    attempts = [
        AttemptView(
            attempt=attempt.number,
            worker=attempt.worker,
            name=attempt.name,
            start=attempt.tokens,
            to=end,
            claimed_ms=attempt.claimed_ms,
        )
        for attempt, end in zip(record.attempts, ends, strict=False)  # none before the first claim
    ]
    return JobView(
        **_row(record),
        params=_params(request) if request else None,
        usage=Usage(record.prompt_tokens, record.cursor, record.cached_tokens, record.retokenized_tokens),
        timings=Timings(*(_since(record, moment) for moment in (record.claimed_ms, record.first_ms, record.ended_ms))),
        attempts=attempts,
        watchers=watchers,
        position=position,
        on_disconnect=record.on_disconnect,
        abandon_ms=record.abandon_ms,
        now_ms=now_ms,
        text=text,
    )


def _params(request: JobRequest) -> ParamsView:
    same = {name: getattr(request, name) for name in ParamsView.__struct_fields__ if name != "seed"}
    return ParamsView(**same, seed=str(request.seed))


def _since(record: JobRecord, moment: int | None) -> int | None:
    return None if moment is None else moment - record.created_ms


def token_times(raw: bytes) -> list[tuple[int, int]]:
    """(cursor, ms since submission) of each write to a log, as lua/append.lua keeps them."""
    numbers = [int.from_bytes(raw[at : at + 4], "big") for at in range(0, len(raw) - len(raw) % 8, 4)]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def joined_texts(texts: list[str], cursors: list[int]) -> list[str]:
    """The text that each write added, of the texts of single ids."""
    return ["".join(texts[start:end]) for start, end in pairwise([0, *cursors])]
