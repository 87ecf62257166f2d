"""A random walk over the store's scripts, with everything that must be true of it after each step."""

import random
from collections import defaultdict
from dataclasses import dataclass, field

from ekiden.jobs import ENDED, NEXT, State
from ekiden.memory import decode_turn
from ekiden.store.operator import Action, AgainOutcome
from ekiden.store.types import (
    ANONYMOUS,
    AppendOutcome,
    Claimed,
    Ending,
    FirstTurn,
    NextTurn,
    SubmitOutcome,
    TurnAgain,
)
from ekiden.wire import EndedFrame
from tests.support.store_fleet import MODEL, OPERATOR, Fleet, asked

ACTIONS: list[Action] = ["cancel", "park", "resume", "resume", "priority"]


@dataclass
class Told:
    """A conversation as the walk knows it; `turns` are messages and answers."""

    user: str
    turns: list[tuple[str, str]] = field(default_factory=list)
    busy: str | None = None
    version: int = 0


@dataclass(frozen=True)
class Place:
    """Where a job's answer goes."""

    conversation: str
    turn: int
    message: str


class Walk:
    """One random history, and what must be true of it."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.random = random.Random(seed)
        self.workers: dict[str, dict[str, tuple[Claimed, int]]] = {}
        self.logs: dict[str, list[str]] = {}
        self.states: dict[str, State] = {}
        self.fences: dict[str, int] = defaultdict(int)
        self.users: dict[str, str] = {}
        self.told: dict[str, Told] = {}
        self.places: dict[str, Place] = {}
        self.started: set[str] = set()
        self.retried: set[str] = set()
        self.count = 0
        self.received = fleet.listen("r1")

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def step(self) -> None:
        actions = [self.submit, self.join, self.claim, self.append, self.append, self.append, self.crash, self.beat]
        actions += [self.cancel, self.lose_claim_reply, self.lose_append_reply, self.hand_off, self.attach, self.zombie]
        actions += [self.park, self.resume, self.resume]
        actions += [self.operate, self.ask_again, self.drain]
        actions += [self.begin, self.go_on, self.go_on, self.answer_again, self.rename, self.delete]
        self.random.choice(actions)()

    def submit(self) -> None:
        if len(self.live()) < 30:
            job = self.name("j")
            user = self.some_user()
            self.fleet.submit(job, user=user, priority=self.random.choice([0, 0, 1]), replica="r1")
            self.submitted(job, user)

    def some_user(self) -> str:
        return self.random.choice([ANONYMOUS, "ann", "bob"])

    def submitted(self, job: str, user: str, place: Place | None = None) -> None:
        self.logs[job] = []
        self.states[job] = State.QUEUED
        self.users[job] = user
        if place:
            self.places[job] = place
            self.told[place.conversation].busy = job

    def begin(self) -> None:
        if len(self.live()) < 30 and len(self.told) < 12:
            job, conversation, user = self.name("j"), self.name("c"), self.some_user()
            message = f"{job}?"
            opening = FirstTurn(conversation, b"", message)
            assert self.fleet.submit(job, user, place=opening, request=asked(message)) is SubmitOutcome.NEW
            self.told[conversation] = Told(user)
            self.submitted(job, user, Place(conversation, 1, message))

    def go_on(self) -> None:
        if self.told:
            conversation = self.random.choice(list(self.told))
            self.ask(conversation, NextTurn(conversation), len(self.told[conversation].turns) + 1)

    def answer_again(self) -> None:
        if self.told:
            conversation = self.random.choice(list(self.told))
            told = self.told[conversation]
            turn = self.random.randint(1, len(told.turns) + 1)
            version = told.version - self.random.choice([0, 0, 0, 1])
            self.ask(conversation, TurnAgain(conversation, turn, version, self.random.random() < 0.5), turn)

    def ask(self, conversation: str, place: NextTurn | TurnAgain, turn: int) -> None:
        told, user, job = self.told[conversation], self.some_user(), self.name("j")
        changed = isinstance(place, TurnAgain) and (place.version != told.version or turn > len(told.turns))
        expected = SubmitOutcome.CONVERSATION_BUSY if told.busy or changed else SubmitOutcome.NEW
        if user != told.user:
            expected = SubmitOutcome.CONVERSATION_NOT_FOUND
        message = f"{job}?"
        assert self.fleet.submit(job, user, place=place, request=asked(message)) is expected
        if expected is SubmitOutcome.NEW:
            self.submitted(job, user, Place(conversation, turn, message))

    def rename(self) -> None:
        if self.told:
            conversation = self.random.choice(list(self.told))
            rename = self.fleet.commands.rename_conversation(self.told[conversation].user, conversation, "Renamed")
            assert self.fleet.store.run(rename)

    def delete(self) -> None:
        if self.told and self.random.random() < 0.1:
            conversation = self.random.choice(list(self.told))
            told = self.told.pop(conversation)
            assert self.fleet.store.run(self.fleet.commands.delete_conversation(told.user, conversation))

    def live(self) -> list[str]:
        return [job for job, state in self.states.items() if state not in ENDED]

    def join(self) -> None:
        if len(self.workers) < 4:
            self.workers[self.fleet.worker(self.name("w"))] = {}

    def some_worker(self) -> str | None:
        return self.random.choice(list(self.workers)) if self.workers else None

    def took(self, worker: str, claim: Claimed) -> None:
        assert claim.fence > self.fences[claim.job], "a fence must grow with every claim"
        assert [r.text for r in claim.records] == self.logs[claim.job], "a claim must carry the whole log"
        if place := self.places.get(claim.job):
            told = self.told[place.conversation]
            assert claim.memory is not None
            assert claim.memory.turn == place.turn
            shown = [(turn.message, turn.answer) for turn in claim.memory.kept_turns()]
            assert shown in (told.turns[: place.turn - 1], told.turns[: place.turn]), (
                "the turns before, or the one again"
            )
        self.fences[claim.job] = claim.fence
        self.workers[worker][claim.job] = (claim, len(claim.records))

    def claim(self) -> None:
        if worker := self.some_worker():
            for claim in self.fleet.claim(worker, self.random.randint(1, 4)):
                self.took(worker, claim)

    def lose_claim_reply(self) -> None:
        if worker := self.some_worker():
            self.fleet.claim(worker, 2)
            owned = list(self.workers[worker])
            lost = self.fleet.store.run(self.fleet.commands.reconcile(worker, owned))
            assert lost is not None
            for claim in lost:
                self.took(worker, claim)

    def write(self, worker: str, job: str, *, lose_reply: bool = False) -> None:
        claim, cursor = self.workers[worker][job]
        self.start(worker, claim)
        texts = [f"{claim.job}.{cursor + i} " for i in range(self.random.randint(0, 3))]
        end = self.random.choice(
            [None, None, None, None, Ending("stop"), Ending("error", "engine_error", "It failed."), Ending("parked")]
        )
        outcome, at = self.fleet.append(worker, claim, cursor, *texts, end=end)
        assert outcome in (AppendOutcome.OK, AppendOutcome.CANCELLED, AppendOutcome.PARKED), outcome
        assert at == cursor + len(texts)
        self.logs[job] += texts
        if end or outcome is not AppendOutcome.OK:
            del self.workers[worker][job]
            again, _ = self.fleet.append(worker, claim, at, "late", end=end)
            assert again is AppendOutcome.FENCED, "nothing is written after the end"
            return
        self.workers[worker][job] = (claim, at)
        if lose_reply and texts:
            outcome, at = self.fleet.append(worker, claim, cursor, *texts)
            assert (outcome, at) == (AppendOutcome.RESEND, cursor + len(texts))

    def start(self, worker: str, claim: Claimed) -> None:
        if claim.job not in self.started:
            assert self.fleet.start(worker, claim)
            self.started.add(claim.job)

    def append(self) -> None:
        worker = self.some_worker()
        if worker and self.workers[worker]:
            self.write(worker, self.random.choice(list(self.workers[worker])))

    def lose_append_reply(self) -> None:
        worker = self.some_worker()
        if worker and self.workers[worker]:
            self.write(worker, self.random.choice(list(self.workers[worker])), lose_reply=True)

    def crash(self) -> None:
        if len(self.workers) > 1 and self.random.random() < 0.3 and (worker := self.some_worker()):
            self.lost = (worker, self.workers.pop(worker))
            self.fleet.die(worker)
            other = self.some_worker()
            assert other is not None
            self.fleet.reap_now(other)

    def zombie(self) -> None:
        worker, jobs = getattr(self, "lost", ("", {}))
        for claim, cursor in jobs.values():
            assert self.fleet.append(worker, claim, cursor, "zombie")[0] is AppendOutcome.FENCED

    def beat(self) -> None:
        if worker := self.some_worker():
            self.fleet.beat(worker)

    def cancel(self) -> None:
        if self.random.random() < 0.3 and (live := self.live()):
            job = self.random.choice(live)
            self.fleet.store.run(self.fleet.commands.cancel(self.users[job], job))

    def park(self) -> None:
        if self.random.random() < 0.5 and (live := self.live()):
            job = self.random.choice(live)
            self.fleet.store.run(self.fleet.commands.park(self.users[job], job))

    def resume(self) -> None:
        held = [job for job in self.live() if self.states[job] is State.PARKED or self.random.random() < 0.1]
        if held:
            job = self.random.choice(held)
            self.fleet.store.run(self.fleet.commands.resume(self.users[job], job))

    def operate(self) -> None:
        if self.random.random() < 0.5 and self.states:
            jobs = self.random.sample(sorted(self.states), min(3, len(self.states)))
            action = self.random.choice(ACTIONS)
            for job, (found, _) in zip(jobs, self.fleet.act(action, *jobs, priority=2), strict=True):
                assert found is self.states[job]

    def ask_again(self) -> None:
        """An operator retries a job; where it was in a conversation, only if that stands as it stood."""
        failed = [job for job, state in self.states.items() if state in (State.ERROR, State.CANCELLED)]
        if not failed or len(self.live()) >= 30:
            return
        job, new = self.random.choice(failed), self.name("j")
        place = self.places.get(job)
        told = self.told.get(place.conversation) if place else None
        expected = AgainOutcome.NEW
        if place:
            gone = told is None
            free = told is not None and not told.busy and len(told.turns) == place.turn - 1
            expected = AgainOutcome.EXPIRED if gone else AgainOutcome.NEW if free else AgainOutcome.CONVERSATION_BUSY
        if job in self.retried:
            expected = AgainOutcome.AGAIN
        poison = self.fleet.store.redis.hget(self.fleet.store.keys.job(job), "code") == b"poison"
        assert self.fleet.again("requeue" if poison else "retry", job, new) is expected
        if expected is AgainOutcome.NEW:
            self.retried.add(job)
            self.submitted(new, self.users[job], place)
            self.fleet.view(new, user=self.users[job])  # it is watched, so that its end is heard

    def drain(self) -> None:
        """A worker is drained, with or without its jobs, and taken back at once."""
        if self.random.random() < 0.3 and (worker := self.some_worker()):
            move = self.random.random() < 0.5
            moved = self.fleet.store.run(self.fleet.operator.drain(worker, True, move, OPERATOR))
            assert self.fleet.claim(worker) == []
            assert moved is not None
            assert moved <= len(self.workers[worker])
            if move:
                self.lost = (worker, self.workers[worker])
                self.workers[worker] = {}
            self.fleet.store.run(self.fleet.operator.drain(worker, False, False, OPERATOR))

    def hand_off(self) -> None:
        if self.random.random() < 0.2 and len(self.workers) > 1 and (worker := self.some_worker()):
            self.fleet.store.run(self.fleet.commands.handoff(worker))
            self.lost = (worker, self.workers.pop(worker))

    def attach(self) -> None:
        if live := self.live():
            job = self.random.choice(live)
            cursor = self.random.randint(0, len(self.logs[job]))
            snapshot = self.fleet.view(job, cursor, user=self.users[job])
            assert [r.text for r in snapshot.records] == self.logs[job][cursor:]

    def check(self) -> None:
        store, keys = self.fleet.store, self.fleet.store.keys
        queued = set(store.redis.zrange(keys.queue(MODEL), 0, -1))
        live = self.live()
        with store.redis.pipeline(transaction=False) as pipe:
            for job in live:
                pipe.hgetall(keys.job(job))
            records = pipe.execute()
        for job, fields in zip(live, records, strict=True):
            before = self.states[job]
            state = State(fields[b"state"].decode())
            assert state is before or state in NEXT[before], (before, state)
            assert int(fields[b"n"]) == len(self.logs[job])
            assert (job.encode() in queued) == (state is State.QUEUED)
            assert state in ENDED or (state is State.PARKED) == (b"park_due" in fields)
            if state is State.RUNNING:
                owner = fields[b"owner"].decode()
                assert store.redis.sismember(keys.worker_jobs(owner), job), "a running job belongs to its owner"
                assert owner in self.workers, "a running job's owner is alive"
            indexed = {
                other for other in State if store.redis.zscore(keys.prefix + f"by:state:{other}", job) is not None
            }
            assert indexed == {state}, "every job is in the index of its state alone"
            self.states[job] = state
            if state in ENDED and job in self.places:
                self.told_of(job)
        self.check_conversations()

    def told_of(self, job: str) -> None:
        """A job ended: its conversation is free, and holds what was shown, unless that went wrong."""
        place = self.places[job]
        if told := self.told.get(place.conversation):
            told.busy = None
            if self.states[job] is State.DONE or (self.states[job] is State.CANCELLED and self.logs[job]):
                told.turns[place.turn - 1 :] = [(place.message, "".join(self.logs[job]))]
                told.version += 1

    def check_conversations(self) -> None:
        conversation = self.random.choice(list(self.told)) if self.told else None
        if conversation:
            told = self.told[conversation]
            view = self.fleet.conversation(conversation, told.user)
            assert view is not None
            assert (view.summary.busy, view.summary.version) == (told.busy, told.version)
            turns = [decode_turn(turn) for turn in view.turns]
            assert [(turn.message, turn.answer) for turn in turns] == told.turns[-100:]

    def finish(self) -> None:
        """End everything: every job must be reachable, and have exactly one terminal event."""
        worker = self.fleet.worker(self.name("last"))
        for other, jobs in list(self.workers.items()):
            for claim, cursor in jobs.values():
                self.start(other, claim)
                self.fleet.append(other, claim, cursor, end=Ending("stop"))
            self.fleet.store.run(self.fleet.commands.handoff(other))
        self.check()
        for job in self.live():
            self.fleet.store.run(self.fleet.commands.resume(self.users[job], job))
        self.check()
        while claims := self.fleet.claim(worker, 8):
            self.workers = {worker: {}}
            self.check()
            for claim in claims:
                self.start(worker, claim)
                self.fleet.append(worker, claim, len(claim.records), end=Ending("stop"))
            self.check()
        self.check_kept()
        self.check_indexes()
        assert self.fleet.store.redis.keys(self.fleet.store.keys.queue(MODEL) + "*") == []
        lists = {self.fleet.store.keys.conversations(told.user).encode() for told in self.told.values()}
        assert set(self.fleet.store.redis.keys(self.fleet.store.keys.prefix + "user:*")) == lists
        assert self.fleet.store.redis.zcard(self.fleet.store.keys.prefix + "timers") == 0
        ends = [frame.job for frame in self.received() if isinstance(frame, EndedFrame)]
        assert sorted(ends) == sorted(self.logs), "exactly one terminal event a job"

    def check_indexes(self) -> None:
        """A search by state finds exactly the jobs that are in it."""
        for state in State:
            assert set(self.fleet.found(100_000, budget=1_000_000, state=state)) == {
                job for job, its in self.states.items() if its is state
            }

    def check_kept(self) -> None:
        """All jobs have ended: no conversation is busy, and nothing is left of those that were deleted."""
        self.check()
        redis, keys = self.fleet.store.redis, self.fleet.store.keys
        expected = set()
        for conversation, told in self.told.items():
            assert self.fleet.conversation(conversation, told.user).summary.busy is None
            expected |= {keys.conversation(conversation), *([keys.turns(conversation)] if told.turns else [])}
        found = [*redis.keys(keys.conversation("*")), *redis.keys(keys.turns("*"))]
        assert {key.decode() for key in found} == expected
        assert all(redis.ttl(key) > 0 for key in expected)
