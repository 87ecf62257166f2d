"""Breaks a fleet under load and measures what its clients saw of it."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import Any

from kombu.exceptions import OperationalError

from ekiden.broker import TASK, create_celery
from ekiden.keys import Keys
from ekiden.memory import decode_turn
from tests.chaos.cluster import Cluster, Size, running_cluster
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.load import Load, Track
from tests.chaos.witness import Witness
from tests.support.store_integrity import check_log
from tests.support.waiting import until_async

RECOVERY_S = 90.0
MAX_AT_ONCE = 3


@dataclass(slots=True)
class Seen:
    """What clients saw of one kind of fault.

    `stalls_s`: of the answers that moved, lost their connection or stood still for long. `waits_s`: from accepted to
    started, of those that were asked for meanwhile.
    """

    fault: str
    what: str
    times: int = 0
    moved: int = 0
    stalls_s: list[float] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, object]:
        """For the report: milliseconds."""
        p50, p99 = _percentiles_ms(self.stalls_s)
        return {
            "fault": self.fault,
            "what": self.what,
            "times": self.times,
            "touched": len(self.stalls_s),
            "moved": self.moved,
            "p50_ms": p50,
            "p99_ms": p99,
            "max_ms": round(1000 * max(self.stalls_s, default=0)),
            "start_p99_ms": _percentiles_ms(self.waits_s)[1],
        }


def _percentiles_ms(seconds: list[float]) -> tuple[int, int]:
    """The median and the 99th percentile; zeros of nothing."""
    if len(seconds) < 2:
        return (round(1000 * sum(seconds)),) * 2
    cuts = quantiles(seconds, n=100, method="inclusive")
    return round(1000 * cuts[49]), round(1000 * cuts[98])


@dataclass(slots=True)
class Outcome:
    """What came of one run."""

    answers: int = 0
    wrong: list[Track] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    trouble: list[str] = field(default_factory=list)

    def join(self, other: "Outcome") -> None:
        """Add another run's answers to this one's."""
        self.answers += other.answers
        self.wrong += other.wrong
        self.trouble += other.trouble
        for name, seen in other.seen.items():
            self.seen.setdefault(name, seen)

    def figures(self) -> dict[str, object]:
        """For the report."""
        kinds = ("lost", "doubled", "altered", "failed")
        wrong = {kind: sum(track.verdict == kind for track in self.wrong) for kind in kinds}
        return {"answers": self.answers, **wrong, "faults": [seen.figures() for seen in self.seen.values()]}


class Driver:
    """One fleet under one load. Event loop only."""

    def __init__(self, cluster: Cluster, load: Load, seed: int) -> None:
        self.cluster = cluster
        self.load = load
        self.outcome = Outcome()
        self._random = random.Random(seed)
        self._celery = create_celery(cluster.settings)
        self._keys = Keys(cluster.settings.key_prefix)
        self._sending: set[asyncio.Task[None]] = set()
        self.witness = Witness(cluster.urls)
        load.on_accepted = self._accepted

    def _accepted(self, job: str) -> None:
        self.witness.follow(job)
        if self.cluster.send_thrice:
            task = asyncio.create_task(asyncio.to_thread(self._send_twice, job))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    def _send_twice(self, job: str) -> None:
        with suppress(OperationalError):  # the store is away: then nothing is delivered
            for _ in range(2):
                self._celery.send_task(TASK, (job,), retry=False)

    async def one_by_one(self, faults: Sequence[Fault]) -> None:
        """Break one thing at a time, and note how long answers stood still."""
        for fault in faults:
            if reason := fault.missing:
                print(f"  {fault.name}: left out, {reason}", flush=True)
                continue
            await self._all_moving(time.monotonic())
            seen = self.outcome.seen.setdefault(fault.name, Seen(fault.name, fault.what))
            await self._break(fault, seen)
            print(f"  {seen.figures()}", flush=True)

    async def combined(self, until_answers: int) -> None:
        """Break several things at once, again and again, until so many answers have ended."""
        while self.load.ended < until_answers:
            chosen: list[Fault] = []
            for fault in self._random.sample(FAULTS, len(FAULTS)):
                apart = all(not fault.parts & other.parts for other in chosen)
                if len(chosen) < MAX_AT_ONCE and apart and not fault.missing:
                    chosen.append(fault)
            print(f"  {self.load.ended} answers; together: {', '.join(fault.name for fault in chosen)}", flush=True)
            async with asyncio.TaskGroup() as tasks:
                for fault in chosen:
                    tasks.create_task(self._later(fault))
            await self._all_moving(time.monotonic())
            self.cluster.check()

    async def _later(self, fault: Fault) -> None:
        await asyncio.sleep(self._random.random())  # so that they meet at any point
        await fault.act(self.cluster, self._random)

    async def _break(self, fault: Fault, seen: Seen) -> None:
        began = time.monotonic()
        await fault.act(self.cluster, self._random)
        await self._all_moving(time.monotonic())
        if not fault.moves:
            # Part of the check: a worker that was wrongly taken for dead would be so by now.
            await asyncio.sleep(self.cluster.settings.lease_s + 0.5)
        over = time.monotonic()
        self.cluster.check()
        moved = [track for track in self.load.tracks if track.moved(began, over)]
        touched = [track for track in self.load.tracks if track.touched(began, over)]
        seen.times += 1
        seen.moved += len(moved)
        seen.stalls_s += [track.stall_s(began, over) for track in touched]
        seen.waits_s += [wait for track in self.load.tracks if (wait := track.waited_s(began, over)) is not None]
        if moved and not fault.moves:
            self.outcome.trouble.append(f"{fault.name}: {len(moved)} answers moved")

    async def _all_moving(self, since: float) -> None:
        """Wait until every answer that runs has grown since a moment, or has ended."""
        running = self.load.running

        async def moving() -> bool:
            return all(track.verdict is not None or (track.progress or 0) > since for track in running)

        await until_async(moving, RECOVERY_S, "the growth of every answer that ran")

    async def settle(self) -> None:
        """All answers have ended: the store says the same as the clients, and nothing is left over."""
        self.cluster.check()
        self.outcome.answers = len(self.load.tracks)
        self.outcome.wrong = self.load.wrong()
        self.outcome.trouble += self.witness.wrong
        await asyncio.gather(*self._sending)
        self._celery.close()
        try:
            await self.cluster.ask_store(self._check_logs)
            await self.cluster.check_store()
        except AssertionError as error:
            self.outcome.trouble.append(str(error))

    def _check_logs(self, client: Any) -> None:
        for track in self.load.tracks:
            if track.job and track.verdict == "whole":
                expected = track.question.expected()
                check_log(client, self._keys, track.job, expected.ids, expected.text)
        for conversation, questions in self.load.conversations.items():
            turns = [decode_turn(turn) for turn in client.lrange(self._keys.turns(conversation), 0, -1)]
            kept = [(turn.message, turn.answer) for turn in turns]
            assert kept == [(question.text, question.expected().text) for question in questions], conversation


@dataclass(frozen=True, slots=True)
class Plan:
    """A run: how large the fleet is, how many answers are open at a time, and what is broken."""

    name: str
    size: Size
    open_answers: int
    tokens: tuple[int, int]
    faults: tuple[Fault, ...] = ()
    combined_until: int = 0


@asynccontextmanager
async def watching(witness: Witness) -> AsyncIterator[None]:
    """Have a witness watch for the length of an `async with` block; its end waits for the ends of what it follows."""
    task = asyncio.create_task(witness.watch())

    async def done() -> bool:
        return witness.done or task.done()

    try:
        yield
        await until_async(done, RECOVERY_S, "the ends that the witness waits for")
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def run(plan: Plan, folder: Path, seed: int) -> Outcome:
    """Carry out a plan in an empty folder, which holds the logs of all processes afterwards."""
    print(f"{plan.name}: {asdict(plan.size)}, {plan.open_answers} answers at a time, seed {seed}", flush=True)
    async with running_cluster(folder, plan.size) as cluster:
        load = Load(cluster.urls, plan.open_answers, plan.tokens, seed)
        driver = Driver(cluster, load, seed)
        async with watching(driver.witness), load.asking():  # the witness waits for what the load asked
            most = min(plan.open_answers, plan.size.workers * plan.size.max_running)

            async def busy() -> bool:
                return len(load.running) >= 0.9 * most

            await until_async(busy, RECOVERY_S, "a fleet at work")
            # A fleet that has just begun takes nobody for dead for one lease, as after an outage of the store.
            await asyncio.sleep(cluster.settings.lease_s)
            await driver.one_by_one(plan.faults)
            await driver.combined(plan.combined_until)
        await driver.settle()
    return driver.outcome
