"""One typed command per Lua script: arguments in, parsed reply out; no I/O, so async and blocking callers share it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import msgspec

from ekiden.jobs import State
from ekiden.keys import Keys
from ekiden.memory import Memory, StoredPrompt, encode_prompt
from ekiden.store.types import (
    Append,
    Appended,
    AppendOutcome,
    BeatReply,
    Claimed,
    ConversationPage,
    ConversationSummary,
    ConversationView,
    FirstTurn,
    NewJob,
    NextTurn,
    PageEnd,
    PendingTurn,
    Place,
    Policy,
    PollReply,
    ReplicaInfo,
    Snapshot,
    SubmitOutcome,
    Submitted,
    TurnAgain,
    WorkerFigures,
    WorkerInfo,
)
from ekiden.wire import decode_ended, decode_record, delta_header

T = TypeVar("T")
Arg = str | bytes | int

MAX_POLLED_JOBS = 100
UNKNOWN_REPLICA = ReplicaInfo()
NO_FIGURES = WorkerFigures()
NO_GAPS: Mapping[int, int] = {}
ANY_TURN = 1 << 53
"""A number beyond every turn's."""


@dataclass(frozen=True, slots=True)
class Command(Generic[T]):
    """A script call that was not made yet."""

    script: str
    args: list[Arg]
    parse: Callable[[Any], T]


class CommandBuilder:
    """Makes script calls under one key prefix and policy."""

    def __init__(self, prefix: str, policy: Policy) -> None:
        self.keys = Keys(prefix)
        self.policy = policy
        self._policy = msgspec.msgpack.encode(asdict(policy))

    def _command(self, script: str, args: Iterable[Arg], parse: Callable[[Any], T]) -> Command[T]:
        return Command(script, [self._policy, *args], parse)


class Commands(CommandBuilder):
    """The store's commands of clients, API processes and workers."""

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
            new.trace,
            *_place(new.place),
        )
        return self._command("submit", args, _submitted)

    def attach(self, replica: str, user: str, job: str, cursor: int) -> Command[Snapshot | None]:
        """Watch a job and read it from `cursor` on, in one step. None: no such job of this user."""
        return self._command("attach", (replica, user, job, cursor), _optional_snapshot)

    def detach(self, replica: str, job: str) -> Command[None]:
        """Stop watching a job; the last watcher starts its grace, or ends it when it asked for that."""
        return self._command("detach", (replica, job), _nothing)

    def poll(
        self, replica: str, watched: Sequence[tuple[str, int, int]], info: ReplicaInfo = UNKNOWN_REPLICA
    ) -> Command[PollReply]:
        """Renew the replica, work on due timers, and read what changed of at most 100 (job, cursor, attempt)."""
        flat = (part for item in watched for part in item)
        return self._command("poll", (replica, msgspec.msgpack.encode(info), *flat), _poll_reply)

    def cancel(self, user: str, job: str) -> Command[State | None]:
        """End a queued job, or ask its worker to. Returns the state found; None: no such job of this user."""
        return self._command("cancel", (user, job), _optional_state)

    def park(self, user: str, job: str) -> Command[State | None]:
        """Hold a queued job, or ask its worker to. Returns the state found; None: no such job of this user."""
        return self._command("park", (user, job), _optional_state)

    def resume(self, user: str, job: str) -> Command[State | None]:
        """Queue a parked job again. Returns the state found; None: no such job of this user."""
        return self._command("resume", (user, job), _optional_state)

    def register(self, incarnation: str, info: WorkerInfo) -> Command[None]:
        """Make a worker known; it owns nothing yet."""
        flat = (part for name, value in asdict(info).items() for part in (name, value))
        return self._command("register", (incarnation, *flat), _nothing)

    def beat(
        self,
        incarnation: str,
        running: int,
        waiting: int,
        state: str,
        figures: WorkerFigures = NO_FIGURES,
        token_gaps: Mapping[int, int] = NO_GAPS,
    ) -> Command[BeatReply]:
        """Renew a worker's lease, reap the dead, work on due timers.

        `token_gaps`: how many times between two tokens of an answer fell into which bucket of ITL_BOUNDS_MS.
        """
        hit = figures.prefix_hit_ratio
        args: list[Arg] = [incarnation, running, waiting, state, msgspec.msgpack.encode(figures)]
        args += [f"{figures.kv_usage:.4g}", "" if hit is None else f"{hit:.4g}"]
        args += (part for gap in token_gaps.items() for part in gap)
        return self._command("beat", args, _beat_reply)

    def claim(self, incarnation: str, model: str, free: int) -> Command[list[Claimed] | None]:
        """Take up to `free` queued jobs, the store's choice. None: this worker is fenced."""
        return self._command("claim", (incarnation, model, free), _claims)

    def reconcile(self, incarnation: str, known: Sequence[str]) -> Command[list[Claimed] | None]:
        """Repeat the claims whose reply was lost: jobs the store says are this worker's, and it does not know."""
        return self._command("reconcile", (incarnation, *known), _claims)

    def start(self, incarnation: str, job: str, fence: int, prompt: StoredPrompt, prompt_tokens: int) -> Command[bool]:
        """Keep a job's prompt, and tell its watchers that it started. False: fenced.

        `prompt_tokens` counts the whole prompt. Only the first prompt of a job is kept.
        """
        encoded = encode_prompt(prompt)
        numbers = (prompt_tokens, prompt.dropped_turns, prompt.retokenized_tokens, prompt.first_turn)
        return self._command("start", (incarnation, job, fence, encoded, *numbers), bool)

    def append(self, incarnation: str, rows: Sequence[Append]) -> Command[list[Appended]]:
        """Log and publish new records of many jobs, fenced, in one step; a job's end keeps its conversation's turn."""
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

    def read_conversation(
        self, user: str, conversation: str, turns: int, *, before: int = ANY_TURN, seed: bool = False
    ) -> Command[ConversationView | None]:
        """A conversation with up to `turns` of its turns, the last before number `before`. None: not this user's.

        With `seed`: its seed and the turn under way too.
        """
        args = (user, conversation, turns, before, int(seed))
        return self._command("conversation_read", args, _conversation)

    def list_conversations(self, user: str, limit: int, after: PageEnd | None = None) -> Command[ConversationPage]:
        """A page of a user's conversations, the newest change first."""
        place = (after.updated_ms, after.id) if after else ()
        return self._command("conversation_list", (user, limit, *place), _conversation_page)

    def rename_conversation(self, user: str, conversation: str, title: str) -> Command[ConversationSummary | None]:
        """Give a conversation a title. None: not this user's."""
        return self._command("conversation_rename", (user, conversation, title), _optional_summary)

    def delete_conversation(self, user: str, conversation: str) -> Command[bool]:
        """Forget a conversation and cancel the job that answers in it. False: not this user's."""
        return self._command("conversation_delete", (user, conversation), bool)


def _place(place: Place | None) -> tuple[Arg, ...]:
    if isinstance(place, FirstTurn):
        return place.conversation, "new", place.seed, place.title
    if isinstance(place, NextTurn):
        return place.conversation, "next"
    if isinstance(place, TurnAgain):
        return place.conversation, "again", place.turn, place.version, int(place.same_prompt)
    return "", ""


def _nothing(_reply: object) -> None:
    return None


def _optional_state(reply: bytes | None) -> State | None:
    return State(reply.decode()) if reply else None


def _submitted(reply: list[Any]) -> Submitted:
    return Submitted(SubmitOutcome(reply[0].decode()), reply[1].decode(), int(reply[2]))


def _snapshot(reply: list[Any]) -> Snapshot:
    job, client_id, state, attempt, cursor, started, dropped, position, expired, ended, records, conversation, parks = (
        reply
    )
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
        conversation=conversation.decode() or None,
        parks=int(parks),
    )


def _optional_snapshot(reply: list[Any] | None) -> Snapshot | None:
    return _snapshot(reply) if reply else None


def _poll_reply(reply: list[Any]) -> PollReply:
    known, changed, missing = reply
    return PollReply(bool(known), [_snapshot(item) for item in changed], _names(missing))


def _claims(reply: list[Any] | None) -> list[Claimed] | None:
    if reply is None:
        return None
    return [_claimed(*claim) for claim in reply]


def _claimed(*reply: Any) -> Claimed:
    job, fence, attempt, request, prompt, log, memory, trace = reply
    return Claimed(
        job=job.decode(),
        fence=fence,
        attempt=attempt,
        request=request,
        prompt=prompt or None,
        records=[decode_record(record) for record in log],
        memory=Memory(*memory) if memory else None,
        trace=trace.decode(),
    )


def _beat_reply(reply: list[Any]) -> BeatReply:
    if reply[0] == 0:
        return BeatReply(fenced=True)
    _, owned, waiting, reaped, cancels, parks = reply
    return BeatReply(False, int(owned), int(waiting), int(reaped), _names(cancels), _names(parks))


def _names(reply: list[bytes]) -> list[str]:
    return [name.decode() for name in reply]


# A worker has thousands of them a second.
_APPEND_OUTCOMES = {outcome.value.encode(): outcome for outcome in AppendOutcome}


def _appended(reply: list[Any]) -> list[Appended]:
    return [
        Appended(_APPEND_OUTCOMES[outcome], cursor) for outcome, cursor in zip(reply[::2], reply[1::2], strict=True)
    ]


def _summary(reply: list[Any]) -> ConversationSummary:
    conversation, title, model, created, updated, version, turns, busy = reply
    return ConversationSummary(
        id=conversation.decode(),
        title=title.decode(),
        model=model.decode(),
        created_ms=int(created),
        updated_ms=int(updated),
        version=int(version),
        turn_count=int(turns),
        busy=busy.decode() or None,
    )


def _optional_summary(reply: list[Any] | None) -> ConversationSummary | None:
    return _summary(reply) if reply else None


def _conversation(reply: list[Any] | None) -> ConversationView | None:
    if reply is None:
        return None
    summary, seed, first_turn, turns, pending = reply
    under_way = PendingTurn(int(pending[0]), pending[1]) if pending else None
    return ConversationView(_summary(summary), seed, int(first_turn), turns, under_way)


def _conversation_page(reply: list[Any]) -> ConversationPage:
    summaries, *place = reply
    following = PageEnd(int(place[0]), place[1].decode()) if place else None
    return ConversationPage([_summary(summary) for summary in summaries], following)
