"""One typed command per Lua script: arguments in, parsed reply out; no I/O, so async and blocking callers share it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import msgspec

from ekiden.jobs import State
from ekiden.keys import Keys
from ekiden.store.types import (
    Append,
    Appended,
    AppendOutcome,
    BeatReply,
    Claimed,
    NewJob,
    Policy,
    PollReply,
    Snapshot,
    SubmitOutcome,
    Submitted,
    WorkerInfo,
)
from ekiden.wire import decode_ended, decode_record, delta_header

T = TypeVar("T")
Arg = str | bytes | int

MAX_POLLED_JOBS = 100


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """A script call that was not made yet."""

    script: str
    args: list[Arg]
    parse: Callable[[Any], T]


class Commands:
    """Builds the store's commands under one key prefix and policy."""

    def __init__(self, prefix: str, policy: Policy) -> None:
        self.keys = Keys(prefix)
        self.policy = policy
        self._policy = msgspec.msgpack.encode(asdict(policy))

    def _command(self, script: str, args: Iterable[Arg], parse: Callable[[Any], T]) -> Command[T]:
        return Command(script, [self._policy, *args], parse)

    def submit(self, new: NewJob, replica: str) -> Command[Submitted]:
        """Store a job and watch it, once per idempotency key."""
        args = (
            new.job,
            new.user,
            new.client_id,
            new.digest,
            new.model,
            new.priority,
            new.on_disconnect,
            new.request,
            replica,
        )
        return self._command("submit", args, _submitted)

    def attach(self, replica: str, user: str, job: str, cursor: int) -> Command[Snapshot | None]:
        """Watch a job and read it from `cursor` on, in one step. None: no such job of this user."""
        return self._command("attach", (replica, user, job, cursor), _optional_snapshot)

    def detach(self, replica: str, job: str) -> Command[None]:
        """Stop watching a job; the last watcher starts its grace, or ends it when it asked for that."""
        return self._command("detach", (replica, job), _nothing)

    def poll(self, replica: str, watched: Sequence[tuple[str, int, int]]) -> Command[PollReply]:
        """Renew the replica, work on due timers, and read what changed of at most 100 (job, cursor, attempt)."""
        flat = (part for item in watched for part in item)
        return self._command("poll", (replica, *flat), _poll_reply)

    def cancel(self, user: str, job: str) -> Command[State | None]:
        """End a queued job, or ask its worker to. Returns the state found; None: no such job of this user."""
        return self._command("cancel", (user, job), lambda reply: State(reply.decode()) if reply else None)

    def register(self, incarnation: str, info: WorkerInfo) -> Command[None]:
        """Make a worker known; it owns nothing yet."""
        flat = (part for name, value in asdict(info).items() for part in (name, value))
        return self._command("register", (incarnation, *flat), _nothing)

    def beat(self, incarnation: str, running: int, waiting: int, state: str) -> Command[BeatReply]:
        """Renew a worker's lease, reap the dead, work on due timers."""
        return self._command("beat", (incarnation, running, waiting, state), _beat_reply)

    def claim(self, incarnation: str, model: str, free: int) -> Command[list[Claimed] | None]:
        """Take up to `free` queued jobs, the store's choice. None: this worker is fenced."""
        return self._command("claim", (incarnation, model, free), _claims)

    def reconcile(self, incarnation: str, known: Sequence[str]) -> Command[list[Claimed] | None]:
        """Repeat the claims whose reply was lost: jobs the store says are this worker's, and it does not know."""
        return self._command("reconcile", (incarnation, *known), _claims)

    def start(
        self, incarnation: str, job: str, fence: int, prompt_ids: bytes, prompt_tokens: int, dropped_turns: int
    ) -> Command[bool]:
        """Keep a job's prompt ids and tell its watchers that it started. False: fenced."""
        return self._command("start", (incarnation, job, fence, prompt_ids, prompt_tokens, dropped_turns), bool)

    def append(self, incarnation: str, rows: Sequence[Append]) -> Command[list[Appended]]:
        """Log and publish new records of many jobs, fenced, in one step."""
        args: list[Arg] = [incarnation]
        for row in rows:
            end = row.ending
            args += (row.job, row.fence, row.start, len(row.records), row.cached_tokens)
            args += (end.finish, end.code, end.message) if end else ("", "", "")
            args.append(delta_header(row.job, row.attempt, row.start, len(row.records)))
            args += row.records
        return self._command("append", args, _appended)

    def handoff(self, incarnation: str) -> Command[int]:
        """Unregister a worker and queue its jobs again without counting a death. Returns how many moved."""
        return self._command("handoff", (incarnation,), int)


def _nothing(_reply: object) -> None:
    return None


def _submitted(reply: list[Any]) -> Submitted:
    return Submitted(SubmitOutcome(reply[0].decode()), reply[1].decode(), int(reply[2]))


def _snapshot(reply: list[Any]) -> Snapshot:
    job, client_id, state, attempt, cursor, started, dropped, position, expired, ended, records = reply
    return Snapshot(
        job=job.decode(),
        client_id=client_id.decode(),
        state=State(state.decode()),
        attempt=int(attempt),
        cursor=int(cursor),
        started=bool(started),
        dropped_turns=int(dropped),
        position=int(position),
        expired=bool(expired),
        ended=decode_ended(ended) if ended else None,
        records=[decode_record(record) for record in records],
    )


def _optional_snapshot(reply: list[Any] | None) -> Snapshot | None:
    return _snapshot(reply) if reply else None


def _poll_reply(reply: list[Any]) -> PollReply:
    known, changed, missing = reply
    return PollReply(bool(known), [_snapshot(item) for item in changed], [job.decode() for job in missing])


def _claims(reply: list[Any] | None) -> list[Claimed] | None:
    if reply is None:
        return None
    return [
        Claimed(job.decode(), int(fence), int(attempt), request, prompt or None, [decode_record(r) for r in records])
        for job, fence, attempt, request, prompt, records in reply
    ]


def _beat_reply(reply: list[Any]) -> BeatReply:
    if reply[0] == 0:
        return BeatReply(fenced=True)
    _, owned, waiting, reaped, cancels = reply
    return BeatReply(False, int(owned), int(waiting), int(reaped), [job.decode() for job in cancels])


def _appended(reply: list[Any]) -> list[Appended]:
    return [
        Appended(AppendOutcome(outcome.decode()), int(cursor))
        for outcome, cursor in zip(reply[::2], reply[1::2], strict=True)
    ]
