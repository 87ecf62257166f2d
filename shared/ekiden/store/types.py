"""What goes into the job store and what comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from ekiden.jobs import State
from ekiden.memory import Memory
from ekiden.protocol import OnDisconnect
from ekiden.settings import Settings
from ekiden.wire import EndedFrame, Record

ANONYMOUS = ""

REPLICA_LEASE_MS = 10_000
"""How long an API process counts as there since it last renewed itself."""

ITL_BOUNDS_MS = (1, 2, 4, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 150, 200, 300, 500, 1000, 2000, 5000)
"""Upper bounds of the buckets in which times between tokens are counted; one more bucket is for what is above."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits the scripts enforce; every process of a fleet should agree on them."""

    beat_ms: int
    lease_ms: int
    early_ms: int
    replica_ms: int
    queue_wait_ms: int
    run_limit_ms: int
    park_ms: int
    grace_ms: int
    keep_log_s: int
    keep_summary_s: int
    keep_conversation_ms: int
    poison_deaths: int
    max_queued: int
    max_per_user: int
    max_summaries: int = 100_000

    @classmethod
    def of(cls, settings: Settings) -> "Policy":
        """The policy that `settings` describe."""
        return cls(
            beat_ms=round(settings.beat_interval_s * 1000),
            lease_ms=round(settings.lease_s * 1000),
            early_ms=round(settings.early_reap_s * 1000),
            replica_ms=REPLICA_LEASE_MS,
            queue_wait_ms=round(settings.queue_wait_s * 1000),
            run_limit_ms=round(settings.run_limit_s * 1000),
            park_ms=round(settings.park_limit_s * 1000),
            grace_ms=round(settings.abandon_grace_s * 1000),
            keep_log_s=round(settings.keep_log_s),
            keep_summary_s=round(settings.keep_summary_s),
            keep_conversation_ms=max(1, round(settings.keep_conversation_s * 1000)),
            poison_deaths=settings.poison_deaths,
            max_queued=settings.max_queued_jobs,
            max_per_user=settings.max_jobs_per_user,
        )


@dataclass(frozen=True, slots=True)
class FirstTurn:
    """The answer begins a conversation; `seed` holds the encoded messages before it (memory.encode_messages)."""

    conversation: str
    seed: bytes
    title: str


@dataclass(frozen=True, slots=True)
class NextTurn:
    """The answer goes on with a conversation."""

    conversation: str


@dataclass(frozen=True, slots=True)
class TurnAgain:
    """The answer takes the place of a turn and of all after it.

    `version` is that of the conversation the request was made from. `same_prompt` is that of the request.
    """

    conversation: str
    turn: int
    version: int
    same_prompt: bool


Place = FirstTurn | NextTurn | TurnAgain
"""Where an answer goes in a kept conversation."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A validated request; `digest` identifies its body, (`user`, `client_id`) is the idempotency key.

    `place` is None when its conversation is not kept. `trace`: the W3C traceparent of what its attempts belong to.
    """

    job: str
    user: str
    client_id: str
    digest: str
    model: str
    priority: int
    on_disconnect: OnDisconnect
    request: bytes
    place: Place | None = None
    trace: str = ""


class SubmitOutcome(StrEnum):
    """What became of a submission."""

    NEW = "new"
    KNOWN = "known"
    CONFLICT = "conflict"
    CONVERSATION_NOT_FOUND = "conversation_not_found"
    CONVERSATION_BUSY = "conversation_busy"
    QUEUE_FULL = "queue_full"
    TOO_MANY_JOBS = "too_many_jobs"


@dataclass(frozen=True, slots=True)
class Submitted:
    """`job` is the existing job's id when the outcome is KNOWN. `position` counts queued jobs ahead."""

    outcome: SubmitOutcome
    job: str
    position: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A job as it is now, with the log records from the asked cursor on.

    `started` tells whether an attempt has its prompt; `parks` how often it was parked. `expired` means the log is gone
    and only the summary is left.
    """

    job: str
    client_id: str
    state: State
    attempt: int
    cursor: int
    started: bool
    dropped_turns: int
    position: int
    expired: bool
    ended: EndedFrame | None
    records: list[Record] = field(default_factory=list)
    conversation: str | None = None
    parks: int = 0


@dataclass(frozen=True, slots=True)
class PollReply:
    """`known` is False when the store lost this replica (it must attach again everything it watches).

    `changed` holds the jobs that differ from what was asked; `missing` those without a record.
    """

    known: bool
    changed: list[Snapshot]
    missing: list[str]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job given to this worker; every write carries `fence`.

    `prompt` (an encoded StoredPrompt) and `records` are from earlier attempts. `memory`: of the conversation it is in.
    """

    job: str
    fence: int
    attempt: int
    request: bytes
    prompt: bytes | None
    records: list[Record]
    memory: Memory | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says of itself.

    `slot` names its place under a supervisor: a new incarnation in it proves the old one dead.
    """

    host: str
    pid: int
    model: str
    context_tokens: int
    max_running: int
    device: str
    version: str
    slot: str = ""
    libraries: str = ""
    """Versions, as name=version name=version …"""
    chaos_drills: int = 0
    """1: it kills itself when a drill asks for that."""
    metrics_port: int = 0


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """What NVML says of a worker's GPU; memory in bytes, utilization from 0 to 1."""

    name: str
    memory_used: int
    memory_total: int
    utilization: float


class WorkerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker does, as it says with each beat; ratios from 0 to 1.

    `prefix_hit_ratio`: which share of the prompts' ids was cached; None before the first prompt. `step_ms` is the mean
    since the last beat, None without a step.
    """

    tokens_per_s: float = 0.0
    kv_usage: float = 0.0
    prefix_hit_ratio: float | None = None
    preemptions: int = 0
    batch_size: int = 0
    step_ms: float | None = None
    gpu: Gpu | None = None


class ReplicaInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What an API process says of itself. `started_ms` is its own clock."""

    host: str = ""
    pid: int = 0
    version: str = ""
    started_ms: int = 0
    connections: int = 0
    watched_jobs: int = 0
    dashboards: int = 0


@dataclass(frozen=True, slots=True)
class BeatReply:
    """None of it matters when `fenced`: the worker was reaped and must drop its jobs and register anew."""

    fenced: bool
    owned: int = 0
    waiting: int = 0
    reaped: int = 0
    cancels: Sequence[str] = ()
    parks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a worker ends a job: `finish` is stop, length or cancelled; or error, with `code` and `message`.

    With `finish` parked the job does not end: the worker lets go of it.
    """

    finish: str
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Append:
    """New log records of one job. `start` is how many records the worker believes are logged."""

    job: str
    fence: int
    attempt: int
    start: int
    records: Sequence[bytes]
    cached_tokens: int = 0
    ending: Ending | None = None


class AppendOutcome(StrEnum):
    """OK: logged. FENCED: not this worker's job any more. CANCELLED, PARKED: logged, and it is so now."""

    OK = "ok"
    FENCED = "fenced"
    CANCELLED = "cancelled"
    PARKED = "parked"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class Appended:
    """RESEND: the log holds `cursor` records, not `start`; send again from there (a reply was lost)."""

    outcome: AppendOutcome
    cursor: int


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """A kept conversation without its text. `busy` is the job that answers in it now.

    `version` rises with every turn that is written.
    """

    id: str
    title: str
    model: str
    created_ms: int
    updated_ms: int
    version: int
    turn_count: int
    busy: str | None


@dataclass(frozen=True, slots=True)
class PendingTurn:
    """The turn that a job makes in a conversation; `request` is the job's."""

    turn: int
    request: bytes


@dataclass(frozen=True, slots=True)
class ConversationView:
    """A kept conversation at one moment: some of its turns, from number `first_turn` on.

    With its seed and the turn under way, if asked for.
    """

    summary: ConversationSummary
    seed: bytes
    first_turn: int
    turns: Sequence[bytes]
    pending: PendingTurn | None = None


@dataclass(frozen=True, slots=True)
class PageEnd:
    """Where a page of conversations ended; only `ConversationPage.following` makes one."""

    updated_ms: int
    id: str


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """Conversations, the newest change first. With `following` None there are no more."""

    conversations: Sequence[ConversationSummary]
    following: PageEnd | None
