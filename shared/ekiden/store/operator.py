"""The store's commands of operators: look for jobs, act on them, hold queues, drain and kill workers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

import msgspec
from typing_extensions import TypeIs

from ekiden.jobs import State
from ekiden.store.commands import Arg, Command, CommandBuilder
from ekiden.store.fleet import LiveWorker, worker_of
from ekiden.store.records import JobRecord, record_of
from ekiden.store.types import ReplicaInfo

Action = Literal["cancel", "park", "resume", "priority"]
Again = Literal["retry", "requeue"]


def is_again(action: Action | Again) -> TypeIs[Again]:
    """Whether it makes a new job."""
    return action in ("retry", "requeue")


@dataclass(frozen=True, slots=True)
class Operator:
    """Who acts, for the audit log: the user of a key, and the key's id."""

    user: str
    key: str


class JobFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Which jobs: all that are given must match. `id` is the beginning of one; moments (ms) are of submission."""

    state: State | None = None
    user: str | None = None
    model: str | None = None
    worker: str | None = None
    code: str | None = None
    id: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    def args(self) -> list[Arg]:
        """As lua/find.lua takes them."""
        given = msgspec.structs.asdict(self).items()
        return [part for name, value in given if value is not None for part in (name.removesuffix("_ms"), value)]


@dataclass(frozen=True, slots=True)
class Found:
    """Jobs, the newest first. `following` is where to go on, None at the end: a search looks at so many a call."""

    jobs: list[JobRecord]
    following: int | None


@dataclass(frozen=True, slots=True)
class FoundIds:
    """The ids of jobs, the newest first; see Found."""

    ids: list[str]
    following: int | None


@dataclass(frozen=True, slots=True)
class Acted:
    """`found`: the state the job was in, None where there is none. `applies`: whether the action does to such a job."""

    found: State | None
    applies: bool


class AgainOutcome(StrEnum):
    """What became of a retry."""

    NEW = "new"
    MISSING = "missing"
    NOT_APPLICABLE = "not_applicable"
    AGAIN = "again"
    EXPIRED = "expired"
    CONVERSATION_BUSY = "conversation_busy"
    QUEUE_FULL = "queue_full"
    TOO_MANY_JOBS = "too_many_jobs"


@dataclass(frozen=True, slots=True)
class ModelQueue:
    """The queue of a model that workers ever served here."""

    model: str
    context_tokens: int
    queued: int
    paused: bool


@dataclass(frozen=True, slots=True)
class LiveReplica:
    """An API process that renewed its lease; `lease_ends_ms` is of the store's clock."""

    id: str
    lease_ends_ms: int
    info: ReplicaInfo


@dataclass(frozen=True, slots=True)
class Overview:
    """How everything stands; `states` counts the jobs that are kept."""

    now_ms: int
    states: dict[str, int]
    models: list[ModelQueue]
    workers: list[LiveWorker]
    replicas: list[LiveReplica]


@dataclass(frozen=True, slots=True)
class Killed:
    """A worker that was told to kill itself, and what it had: jobs and how many tokens of each were logged."""

    name: str
    now_ms: int
    jobs: dict[str, int]


class OperatorCommands(CommandBuilder):
    """Builds the commands of operators; what changes something writes the audit log in the same step."""

    def find(self, wanted: JobFilter, before: int | None, limit: int, budget: int) -> Command[Found]:
        """A page of jobs, newest first; looks at about `budget` of them at most."""
        return self._command("find", _find_args(wanted, before, limit, budget), _found)

    def find_ids(self, wanted: JobFilter, before: int | None, limit: int, budget: int) -> Command[FoundIds]:
        """The same, without the records."""
        return self._command("find", _find_args(wanted, before, limit, budget, ids=True), _found_ids)

    def act(
        self, action: Action, jobs: Sequence[str], by: Operator, *, priority: int = 0, audited: bool = True
    ) -> Command[list[Acted]]:
        """Do something to jobs; `audited` notes each of them."""
        return self._command("act", (action, priority, by.user, by.key, int(audited), *jobs), _acted)

    def again(
        self, action: Again, job: str, new: str, by: Operator, *, audited: bool = True
    ) -> Command[tuple[AgainOutcome, State | None]]:
        """Ask again what a failed or cancelled job asked, as job `new`; with the state it was found in."""
        return self._command("retry", (job, new, action, by.user, by.key, int(audited)), _again)

    def hold_queue(self, model: str, held: bool, by: Operator) -> Command[bool]:
        """Hold a model's queue, or let it go on. False: nobody ever served this model."""
        return self._command("hold", (model, int(held), by.user, by.key), bool)

    def drain(self, worker: str, drain: bool, move: bool, by: Operator) -> Command[int | None]:
        """Let a worker take no more jobs, or some again. Returns how many moved; None: no such worker."""
        return self._command("drain", (worker, int(drain), int(move), by.user, by.key), _optional_int)

    def kill(self, worker: str, by: Operator) -> Command[Killed | Literal["refused"] | None]:
        """Have a worker kill its process. "refused": it does not allow that; None: no such worker."""
        return self._command("kill", (worker, by.user, by.key), _killed)

    def note(self, by: Operator, action: str, target: str, detail: str, outcome: str) -> Command[None]:
        """Write the audit log, for what takes many calls."""
        return self._command("note", (by.user, by.key, action, target, detail, outcome), _nothing)

    def overview(self) -> Command[Overview]:
        """Read how everything stands."""
        return self._command("overview", (), _overview)


def _nothing(_reply: object) -> None:
    return None


def _find_args(wanted: JobFilter, before: int | None, limit: int, budget: int, *, ids: bool = False) -> list[Arg]:
    return ["" if before is None else before, limit, budget, int(ids), *wanted.args()]


def _pairs(flat: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(flat[::2], flat[1::2], strict=True)


def _place(reply: bytes) -> int | None:
    return int(reply) if reply else None


def _found(reply: list[Any]) -> Found:
    place, *rows = reply
    return Found([record_of(job.decode(), dict(_pairs(flat))) for job, flat in rows], _place(place))


def _found_ids(reply: list[Any]) -> FoundIds:
    place, *ids = reply
    return FoundIds([job.decode() for job in ids], _place(place))


def _state(reply: bytes) -> State | None:
    return State(reply.decode()) if reply else None


def _acted(reply: list[Any]) -> list[Acted]:
    return [Acted(_state(found), bool(applies)) for found, applies in _pairs(reply)]


def _again(reply: list[Any]) -> tuple[AgainOutcome, State | None]:
    return AgainOutcome(reply[0].decode()), _state(reply[1])


def _optional_int(reply: int | None) -> int | None:
    return reply


def _killed(reply: list[Any] | bytes | None) -> Killed | Literal["refused"] | None:
    if reply is None:
        return None
    if isinstance(reply, bytes):
        return "refused"
    name, now, *jobs = reply
    return Killed(name.decode(), int(now), {job.decode(): int(count) for job, count in _pairs(jobs)})


def _overview(reply: list[Any]) -> Overview:
    now, states, models, workers, replicas = reply
    moment = int(now)
    return Overview(
        now_ms=moment,
        states={name.decode(): count for name, count in _pairs(states)},
        models=[ModelQueue(name.decode(), int(context), queued, bool(held)) for name, context, queued, held in models],
        workers=[worker_of(name.decode(), int(ends) - moment, dict(_pairs(flat))) for name, ends, flat in workers],
        replicas=[
            LiveReplica(name.decode(), int(ends), msgspec.msgpack.decode(said, type=ReplicaInfo))
            for name, ends, said in replicas
        ],
    )
