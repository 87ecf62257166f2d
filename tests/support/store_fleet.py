"""Plays API replicas and workers on one store through the typed commands, without their processes."""

from collections.abc import Callable
from typing import Any

import msgspec

from ekiden import wire
from ekiden.jobs import State
from ekiden.memory import KeptTurn, StoredPrompt, decode_turn
from ekiden.protocol import Message, Params
from ekiden.settings import Settings
from ekiden.store import BlockingStore
from ekiden.store.operator import Action, Again, AgainOutcome, JobFilter, Operator, OperatorCommands
from ekiden.store.types import (
    ANONYMOUS,
    Append,
    AppendOutcome,
    Claimed,
    ConversationSummary,
    ConversationView,
    Ending,
    FirstTurn,
    NewJob,
    NextTurn,
    Place,
    Policy,
    Snapshot,
    SubmitOutcome,
    WorkerInfo,
)
from ekiden.validation import resolve
from tests.support.waiting import until

MODEL = "m"
OPERATOR = Operator("olga", "0f0f0f0f")
PROMPT = StoredPrompt([1, 2, 3])


def asked(text: str, *, same_prompt: bool = False) -> bytes:
    """The request of a turn, as the store keeps it."""
    return msgspec.msgpack.encode(resolve([Message("user", text)], Params(), MODEL, 1, same_prompt=same_prompt))


class Fleet:
    """One store and its players."""

    def __init__(self, settings: Settings) -> None:
        self.store = BlockingStore(settings)
        self.commands = self.store.commands
        self.operator = OperatorCommands(settings.key_prefix, Policy.of(settings))
        self._pubsubs: list[Any] = []

    def close(self) -> None:
        """Give the connections back."""
        for pubsub in self._pubsubs:
            pubsub.close()
        self.store.close()

    def submit(
        self,
        job: str,
        user: str = ANONYMOUS,
        priority: int = 0,
        replica: str = "r1",
        place: Place | None = None,
        request: bytes = b"request",
        **fields: str,
    ) -> SubmitOutcome:
        new = NewJob(
            job=job,
            user=user,
            client_id=fields.get("client_id", job),
            digest=fields.get("digest", "d"),
            model=MODEL,
            priority=priority,
            on_disconnect="cancel" if fields.get("on_disconnect") == "cancel" else "keep",
            request=request,
            place=place,
        )
        return self.store.run(self.commands.submit(new, replica)).outcome

    def worker(self, name: str, slot: str = "") -> str:
        info = WorkerInfo("host", 1, MODEL, 2048, 8, "cpu", "0", slot)
        self.store.run(self.commands.register(name, info))
        return name

    def claim(self, worker: str, free: int = 1) -> list[Claimed]:
        claims = self.store.run(self.commands.claim(worker, MODEL, free))
        assert claims is not None, "the worker is fenced"
        return claims

    def start(self, worker: str, claim: Claimed, prompt: StoredPrompt = PROMPT, prompt_tokens: int = 3) -> bool:
        return self.store.run(self.commands.start(worker, claim.job, claim.fence, prompt, prompt_tokens))

    def append(
        self, worker: str, claim: Claimed, start: int, *texts: str, end: Ending | None = None
    ) -> tuple[AppendOutcome, int]:
        records = [wire.encode_record(start + i, text) for i, text in enumerate(texts)]
        row = Append(claim.job, claim.fence, claim.attempt, start, records, ending=end)
        [result] = self.store.run(self.commands.append(worker, [row]))
        return result.outcome, result.cursor

    def answer(self, worker: str, *texts: str, prompt: StoredPrompt = PROMPT, finish: str = "stop") -> Claimed:
        """Claim the next job and run it to its end."""
        [claim] = self.claim(worker)
        assert self.start(worker, claim, prompt, len(prompt.ids))
        assert self.append(worker, claim, 0, *texts, end=Ending(finish)) == (AppendOutcome.OK, len(texts))
        return claim

    def view(self, job: str, cursor: int = 0, user: str = ANONYMOUS, replica: str = "r1") -> Snapshot:
        snapshot = self.store.run(self.commands.attach(replica, user, job, cursor))
        assert snapshot is not None, "no such job"
        return snapshot

    def conversation(self, conversation: str = "c", user: str = ANONYMOUS) -> ConversationView | None:
        return self.store.run(self.commands.read_conversation(user, conversation, 100, seed=True))

    def summary(self, conversation: str = "c") -> ConversationSummary:
        found = self.conversation(conversation)
        assert found is not None, "no such conversation"
        return found.summary

    def turns(self, conversation: str = "c") -> list[KeptTurn]:
        found = self.conversation(conversation)
        assert found is not None, "no such conversation"
        assert found.summary.turn_count == len(found.turns)
        return [decode_turn(turn) for turn in found.turns]

    def said(self, conversation: str = "c") -> list[tuple[str, str]]:
        """Message and answer of each turn."""
        return [(turn.message, turn.answer) for turn in self.turns(conversation)]

    def talk(self, worker: str, *messages: str, conversation: str = "c", user: str = ANONYMOUS) -> None:
        """Begin a conversation; each message is answered with itself in capitals."""
        for number, message in enumerate(messages, 1):
            place = NextTurn(conversation) if number > 1 else FirstTurn(conversation, b"", message)
            job = f"{conversation}{number}"
            assert self.submit(job, user, place=place, request=asked(message)) is SubmitOutcome.NEW
            self.answer(worker, message.upper(), prompt=StoredPrompt([number]))

    def act(self, action: Action, *jobs: str, priority: int = 0) -> list[tuple[State | None, bool]]:
        """Act as an operator."""
        done = self.store.run(self.operator.act(action, jobs, OPERATOR, priority=priority))
        return [(one.found, one.applies) for one in done]

    def again(self, action: Again, job: str, new: str) -> AgainOutcome:
        """Ask again as an operator."""
        return self.store.run(self.operator.again(action, job, new, OPERATOR))[0]

    def found(self, limit: int = 100, before: int | None = None, budget: int = 10_000, **wanted: Any) -> list[str]:
        """Ids of jobs that match, the newest first."""
        page = self.store.run(self.operator.find(JobFilter(**wanted), before, limit, budget))
        return [record.id for record in page.jobs]

    def audit(self) -> list[dict[str, str]]:
        """The audit log, the oldest first."""
        entries = self.store.redis.xrange(self.store.keys.audit)
        return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]

    def beat(self, worker: str) -> int:
        """Beat once and return how many jobs were taken from dead workers."""
        reply = self.store.run(self.commands.beat(worker, 0, 0, "ready"))
        assert not reply.fenced
        return reply.reaped

    def listen(self, replica: str) -> Callable[[], list[wire.AnyFrame]]:
        """Subscribe as `replica`; the returned function gives all frames received so far."""
        pubsub = self.store.redis.pubsub(ignore_subscribe_messages=True)
        pubsub.subscribe(self.store.keys.out(replica))
        until(lambda: self.store.redis.pubsub_numsub(self.store.keys.out(replica))[0][1] == 1, what="the subscription")
        frames: list[wire.AnyFrame] = []

        def received() -> list[wire.AnyFrame]:
            while message := pubsub.get_message(timeout=0.05):
                frames.extend(wire.decode_frames(message["data"]))
            return frames

        self._pubsubs.append(pubsub)
        return received

    def die(self, worker: str) -> None:
        """Let a worker's lease be over, as if it had been silent."""
        self.store.redis.zadd(self.store.keys.workers, {worker: 1})

    def reap_now(self, worker: str) -> int:
        """Reap at once, as if the fleet had never been silent."""
        self.store.redis.hset(self.store.keys.prefix + "fleet", mapping={"no_reap_until": 0, "last_beat": 2**50})
        return self.beat(worker)

    def reap(self, worker: str) -> int:
        """Beat until the outage guard is over and the dead are reaped."""
        return until(lambda: self.beat(worker), what="a reaped job")
