"""A worker was killed on purpose: follow what becomes of its jobs, and keep the scorecard in the store."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median_low

import msgspec
import redis
import structlog

from ekiden.jobs import ENDED, State
from ekiden.store import Store
from ekiden.store.operator import Killed
from ekiden.store.records import JobRecord, read_jobs
from ekiden_api.admin.shapes import Drill, DrillRow
from ekiden_api.admin.views import token_times

log = structlog.get_logger()

LOOK_S = 0.1
LONGEST_S = 120.0
MISSING = "missing"
KEPT = 20


@dataclass(slots=True)
class _Followed:
    """One job of the killed worker."""

    job: str
    tokens: int
    attempt: int = 0
    state: str = State.RUNNING
    moved: bool = False
    stall_ms: int | None = None

    @property
    def settled(self) -> bool:
        """Nothing that matters here can change any more."""
        return self.stall_ms is not None or self.state in ENDED or self.state in (MISSING, State.PARKED)

    @property
    def lost(self) -> bool:
        return self.state in (MISSING, State.ERROR)

    def shown(self) -> DrillRow:
        """As a row of the scorecard."""
        return DrillRow(
            job=self.job, tokens=self.tokens, stall_ms=self.stall_ms, attempt=self.attempt, state=self.state
        )


class Drills:
    """Follows the drills that this process began. Event loop only."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, worker: str, killed: Killed, by: str) -> Drill:
        """Follow the jobs of a worker that was told to kill itself; answers with the empty scorecard."""
        rows = [_Followed(job, tokens) for job, tokens in killed.jobs.items()]
        card = _card(secrets.token_hex(8), worker, killed, by, rows, None)
        await self._keep(card)
        task = asyncio.create_task(self._follow(card, killed, rows))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return card

    async def stop(self) -> None:
        """Follow no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, card: Drill, killed: Killed, rows: list[_Followed]) -> None:
        deadline = time.monotonic() + LONGEST_S
        over = False
        while not over:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look(killed, rows)
                over = all(row.settled for row in rows) or time.monotonic() > deadline
                ended_ms = await self._store.now_ms() if over else None
                await self._keep(_card(card.id, card.worker, killed, card.by, rows, ended_ms))
            except (redis.RedisError, OSError) as error:
                over = False
                log.warning("drill_store_away", error=type(error).__name__)
            except Exception:
                log.exception("drill_failed", drill=card.id)
                return

    async def _look(self, killed: Killed, rows: list[_Followed]) -> None:
        open_rows = [row for row in rows if not row.settled]
        records = await read_jobs(self._store, [row.job for row in open_rows])
        for row, record in zip(open_rows, records, strict=True):
            if record is None:
                row.state = MISSING
                continue
            row.state, row.attempt = record.state, record.attempt
            start = _moved_at(record, killed)
            row.moved = start is not None
            if start is not None and record.cursor > start:
                row.stall_ms = await self._stall(record, killed, start)

    async def _stall(self, record: JobRecord, killed: Killed, start: int) -> int | None:
        """From the kill, or the last write the worker still made, to the next one's first; by the store's clock."""
        raw = await self._store.redis.get(self._store.keys.times(record.id))
        writes = token_times(raw or b"")
        before = [killed.now_ms - record.created_ms, *(ms for cursor, ms in writes if cursor <= start)]
        after = [ms for cursor, ms in writes if cursor > start]
        return after[0] - max(before) if after else None

    async def _keep(self, card: Drill) -> None:
        redis, key = self._store.redis, self._store.keys.drills
        await redis.hset(key, card.id, msgspec.msgpack.encode(card))
        if await redis.hlen(key) > KEPT:
            cards = [msgspec.msgpack.decode(raw, type=Drill) for raw in await redis.hvals(key)]
            await redis.hdel(key, min(cards, key=lambda one: one.started_ms).id)


def _moved_at(record: JobRecord, killed: Killed) -> int | None:
    """With how many tokens another worker took over since the kill; None: nobody did yet."""
    return next((attempt.tokens for attempt in record.attempts if attempt.claimed_ms >= killed.now_ms), None)


def _card(drill: str, worker: str, killed: Killed, by: str, rows: list[_Followed], ended_ms: int | None) -> Drill:
    stalls = [row.stall_ms for row in rows if row.stall_ms is not None]
    return Drill(
        id=drill,
        worker=worker,
        name=killed.name,
        by=by,
        started_ms=killed.now_ms,
        ended_ms=ended_ms,
        jobs=len(rows),
        moved=sum(row.moved for row in rows),
        ended=sum(row.state in ENDED and not row.moved and not row.lost for row in rows),
        lost=sum(row.lost for row in rows),
        waiting=sum(not row.settled for row in rows),
        stall_p50_ms=median_low(stalls) if stalls else None,
        stall_max_ms=max(stalls, default=None),
        rows=[row.shown() for row in rows],
    )


@asynccontextmanager
async def conducting(store: Store) -> AsyncIterator[Drills]:
    """Drills for the length of an `async with` block."""
    drills = Drills(store)
    try:
        yield drills
    finally:
        await drills.stop()
