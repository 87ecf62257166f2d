"""What the admin API answers with: one type for each shape of docs/admin.md.

Moments (`_ms`) are Unix times by the store's clock; ratios go from 0 to 1; None stands where there is nothing to say.
"""

from typing import Literal

import msgspec

from ekiden.jobs import State
from ekiden.protocol import Message, Timings, Usage
from ekiden.store.types import Gpu


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class WorkerView(Shape, frozen=True):
    """A registered worker. `draining`: an operator asked for it; `leaving`: its process ends."""

    incarnation: str
    host: str
    pid: int
    slot: str
    model: str
    device: str
    version: str
    libraries: dict[str, str]
    context_tokens: int
    max_running: int
    state: Literal["ready", "draining", "leaving"]
    running: int
    waiting: int
    registered: int
    beat: int | None
    lease_ms_left: int
    tokens_per_s: float
    kv_usage: float
    prefix_hit_ratio: float | None
    preemptions: int
    batch_size: int
    step_ms: float | None
    gpu: Gpu | None
    metrics_port: int | None
    chaos_drills: bool


class Workers(Shape, frozen=True):
    """Every worker with a valid lease."""

    workers: list[WorkerView]


class ReplicaView(Shape, frozen=True):
    """An API process. `started_ms` is its own clock."""

    id: str
    host: str
    pid: int
    version: str
    started_ms: int
    seen_ms: int
    connections: int
    watched_jobs: int
    dashboards: int


class StoreView(Shape, frozen=True):
    """The health of the job store; sizes in bytes, a limit of 0 is none. `warnings` are sentences."""

    server: str
    uptime_s: int
    memory_bytes: int
    memory_peak_bytes: int
    memory_limit_bytes: int
    policy: str
    ops_per_s: int
    clients: int
    aof: bool
    aof_ok: bool
    fsync: str | None
    keys: int
    warnings: list[str]


class ModelView(Shape, frozen=True):
    """The queue of a model, and how many workers serve it."""

    model: str
    queued: int
    paused: bool
    context_tokens: int
    workers: int


class Rates(Shape, frozen=True):
    """What happened lately."""

    tokens_per_s: float
    jobs_per_s: float
    failed_per_min: float
    moved_per_min: float


class Percentiles(Shape, frozen=True):
    """Of times in ms."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Latency(Shape, frozen=True):
    """Over the last minute: accepted → first token, token → next token, accepted → claimed."""

    ttft_ms: Percentiles
    itl_ms: Percentiles
    queue_ms: Percentiles


class OverviewView(Shape, frozen=True):
    """How everything stands; `states` counts the jobs that are kept."""

    now_ms: int
    states: dict[str, int]
    models: list[ModelView]
    rates: Rates
    latency: Latency
    workers: list[WorkerView]
    replicas: list[ReplicaView]
    store: StoreView


class WorkerSeries(Shape, frozen=True):
    """The history of one worker."""

    name: str
    kv_usage: list[float | None]
    prefix_hit_ratio: list[float | None]


class Series(Shape, frozen=True):
    """The history in steps; `times` are the beginnings of steps, in seconds."""

    range: str
    step_s: int
    now_ms: int
    times: list[int]
    columns: dict[str, list[float | None]]
    workers: dict[str, WorkerSeries]


class JobRow(Shape, frozen=True):
    """A job without its text. `worker` runs it, or ran it last; `worker_name` is its "host:pid", also when it is gone.

    `cursor` counts generated tokens. `asked` is not acknowledged by its worker yet.
    """

    id: str
    state: State
    user: str
    model: str
    priority: int
    attempt: int
    deaths: int
    worker: str | None
    worker_name: str | None
    cursor: int
    created_ms: int
    claimed_ms: int | None
    first_ms: int | None
    ended_ms: int | None
    finish_reason: str | None
    error_code: str | None
    error_message: str | None
    prompt_tokens: int
    cached_tokens: int
    conversation: str | None
    retry_of: str | None
    asked: Literal["cancel", "park"] | None


class JobsPage(Shape, frozen=True):
    """Jobs, the newest first; `next` is the cursor of the page after."""

    jobs: list[JobRow]
    next: int | None
    now_ms: int


class ParamsView(Shape, frozen=True):
    """How a job is generated; `max_tokens` None: as many as fit, up to the server's default.

    `seed` is a text, as a page's numbers hold 53 of its 63 bits.
    """

    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    seed: str
    stop: list[str]


class AttemptView(Shape, frozen=True):
    """A claim by a worker, which made the ids from + 1 … to."""

    attempt: int
    worker: str
    name: str
    start: int = msgspec.field(name="from")
    to: int
    claimed_ms: int


class TextView(Shape, frozen=True):
    """What was said; None where that is not kept any more. Not `shown`: role or setting forbid it."""

    shown: bool
    messages: list[Message] | None = None
    answer: str | None = None


class JobView(JobRow, frozen=True):
    """Everything about one job."""

    params: ParamsView | None
    usage: Usage
    timings: Timings
    attempts: list[AttemptView]
    watchers: int
    position: int | None
    on_disconnect: str
    abandon_ms: int | None
    now_ms: int
    text: TextView


class Replay(Shape, frozen=True):
    """What the store was given when: ms after `created_ms`, the cursor then, and the text that was new."""

    times_ms: list[int]
    cursors: list[int]
    texts: list[str] | None


class DrillRow(Shape, frozen=True):
    """One job of a killed worker: `stall_ms` is the time from the kill to its next token."""

    job: str
    tokens: int
    stall_ms: int | None
    attempt: int
    state: str


class Drill(Shape, frozen=True):
    """The survival scorecard of a worker that was killed on purpose."""

    id: str
    worker: str
    name: str
    by: str
    started_ms: int
    ended_ms: int | None
    jobs: int
    moved: int
    ended: int
    lost: int
    waiting: int
    stall_p50_ms: int | None
    stall_max_ms: int | None
    rows: list[DrillRow]


class Drills(Shape, frozen=True):
    """Drills, the newest first."""

    drills: list[Drill]


class AuditEntry(Shape, frozen=True):
    """What somebody did."""

    id: str
    at_ms: int
    user: str
    key: str
    action: str
    target: str
    detail: str
    outcome: str


class Audit(Shape, frozen=True):
    """The audit log, the newest first; `next` is the cursor of the page after."""

    entries: list[AuditEntry]
    next: str | None


class ActionDone(Shape, frozen=True):
    """`state`: what the job was found in; `job`: the new one of a retry."""

    id: str
    state: State
    job: str | None = None


class BulkCount(Shape, frozen=True):
    """How many jobs match, and of them are in a state that the action is for; the same with this `confirm` acts."""

    count: int
    fits: int
    confirm: int


class BulkDone(Shape, frozen=True):
    """What became of an action on many jobs."""

    count: int
    acted: int
    skipped: int


class QueueDone(Shape, frozen=True):
    """A queue that is held, or is not any more."""

    model: str
    paused: bool


class DrainDone(Shape, frozen=True):
    """A worker that takes no more jobs, or takes some again; how many of its jobs went on elsewhere."""

    worker: str
    draining: bool
    moved: int
