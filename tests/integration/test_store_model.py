"""A random walk over the real scripts: whatever workers, clients and lost replies do, the store's invariants hold.

Every step is checked against what the walk itself wrote: one terminal event, no gap, no write by an old fence, only the
state moves of the table, and no job that nobody can reach.
"""

import os
import random
from collections import defaultdict
from collections.abc import Callable

import pytest

from ekiden.jobs import ENDED, NEXT, State
from ekiden.settings import Settings
from ekiden.store.types import ANONYMOUS, AppendOutcome, Claimed, Ending
from ekiden.wire import EndedFrame
from tests.support.store_fleet import MODEL, Fleet

STEPS = int(os.environ.get("EKIDEN_TEST_STORE_STEPS", "6000"))


class Walk:
    """One random history, and what must be true of it."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.random = random.Random(seed)
        self.workers: dict[str, dict[str, tuple[Claimed, int]]] = {}
        self.logs: dict[str, list[str]] = {}
        self.states: dict[str, State] = {}
        self.fences: dict[str, int] = defaultdict(int)
        self.count = 0
        self.received = fleet.listen("r1")

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def step(self) -> None:
        actions = [self.submit, self.join, self.claim, self.append, self.append, self.append, self.crash, self.beat]
        actions += [self.cancel, self.lose_claim_reply, self.lose_append_reply, self.hand_off, self.attach, self.zombie]
        self.random.choice(actions)()

    def submit(self) -> None:
        if len(self.live()) < 30:
            job = self.name("j")
            user = self.random.choice([ANONYMOUS, "ann", "bob"])
            self.fleet.submit(job, user=user, priority=self.random.choice([0, 0, 1]), replica="r1")
            self.logs[job] = []
            self.states[job] = State.QUEUED
            self.user = {**getattr(self, "user", {}), job: user}

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
        texts = [f"{claim.job}.{cursor + i} " for i in range(self.random.randint(0, 3))]
        end = self.random.choice(
            [None, None, None, None, Ending("stop"), Ending("error", "engine_error", "It failed.")]
        )
        outcome, at = self.fleet.append(worker, claim, cursor, *texts, end=end)
        assert outcome in (AppendOutcome.OK, AppendOutcome.CANCELLED), outcome
        assert at == cursor + len(texts)
        self.logs[job] += texts
        if end or outcome is AppendOutcome.CANCELLED:
            del self.workers[worker][job]
            again, _ = self.fleet.append(worker, claim, at, "late", end=end)
            assert again is AppendOutcome.FENCED, "nothing is written after the end"
            return
        self.workers[worker][job] = (claim, at)
        if lose_reply and texts:
            outcome, at = self.fleet.append(worker, claim, cursor, *texts)
            assert (outcome, at) == (AppendOutcome.RESEND, cursor + len(texts))

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
            self.fleet.store.run(self.fleet.commands.cancel(self.user[job], job))

    def hand_off(self) -> None:
        if self.random.random() < 0.2 and len(self.workers) > 1 and (worker := self.some_worker()):
            self.fleet.store.run(self.fleet.commands.handoff(worker))
            self.lost = (worker, self.workers.pop(worker))

    def attach(self) -> None:
        if live := self.live():
            job = self.random.choice(live)
            cursor = self.random.randint(0, len(self.logs[job]))
            snapshot = self.fleet.view(job, cursor, user=self.user[job])
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
            if state is State.RUNNING:
                owner = fields[b"owner"].decode()
                assert store.redis.sismember(keys.worker_jobs(owner), job), "a running job belongs to its owner"
                assert owner in self.workers, "a running job's owner is alive"
            self.states[job] = state

    def finish(self) -> None:
        """End everything: every job must be reachable, and have exactly one terminal event."""
        worker = self.fleet.worker(self.name("last"))
        for other, jobs in list(self.workers.items()):
            for claim, cursor in jobs.values():
                self.fleet.append(other, claim, cursor, end=Ending("stop"))
            self.fleet.store.run(self.fleet.commands.handoff(other))
        while claims := self.fleet.claim(worker, 8):
            for claim in claims:
                self.fleet.append(worker, claim, len(claim.records), end=Ending("stop"))
        assert self.fleet.store.redis.keys(self.fleet.store.keys.queue(MODEL) + "*") == []
        assert self.fleet.store.redis.keys(self.fleet.store.keys.prefix + "user:*") == []
        assert self.fleet.store.redis.zcard(self.fleet.store.keys.prefix + "timers") == 0
        ends = [frame.job for frame in self.received() if isinstance(frame, EndedFrame)]
        assert sorted(ends) == sorted(self.logs), "exactly one terminal event a job"


@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(2**32), 7])
def test_a_random_history_keeps_every_invariant(make_settings: Callable[..., Settings], seed: int) -> None:
    print(f"seed {seed}")
    fleet = Fleet(make_settings(early_reap_s=0, lease_s=120, beat_interval_s=60))
    walk = Walk(fleet, seed)
    for number in range(STEPS // 2):
        walk.step()
        walk.check()
        if number % 100 == 0:
            walk.received()
            fleet.store.run(fleet.commands.poll("r1", []))  # a replica that does not poll is given up
    walk.finish()
