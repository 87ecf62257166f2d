"""Reads what operators see. What several dashboards ask at once is read once."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from ekiden.errors import Expired, JobNotFound
from ekiden.protocol import JobRequest, Message
from ekiden.store import Store
from ekiden.store.operator import JobFilter, Overview
from ekiden.store.records import JobRecord, read_job
from ekiden.wire import decode_record
from ekiden_api.admin.health import store_view
from ekiden_api.admin.history import History
from ekiden_api.admin.shapes import (
    Audit,
    AuditEntry,
    Drill,
    Drills,
    JobsPage,
    JobView,
    OverviewView,
    Replay,
    Series,
    StoreView,
    TextView,
    Workers,
)
from ekiden_api.admin.views import job_row, job_view, joined_texts, overview_view, token_times, worker_view

T = TypeVar("T")

FRESH_S = 0.5
HEALTH_FRESH_S = 5.0
SEARCH_STEP = 2_000  # entries of an index that one call looks at: about 5 ms of the store's time
SEARCH_S = 0.025  # after this long a page is given short
TAIL_CHARACTERS = 4_000
TAIL, WHOLE, NOTHING = (-4_000, -1), (0, -1), (1, 0)  # of a log, as LRANGE takes it


class _Fresh:
    """One value that is read again when it is older than so long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._value: Any = None
        self._read = float("-inf")

    async def get(self, read: Callable[[], Awaitable[T]]) -> T:
        if time.monotonic() - self._read > self._seconds:
            self._value = await read()
            self._read = time.monotonic()
        value: T = self._value
        return value


class Desk:
    """What operators see of the store. All methods raise redis.RedisError and OSError when it is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._history = History(store)
        self._overview = _Fresh(FRESH_S)
        self._health = _Fresh(HEALTH_FRESH_S)

    async def overview(self) -> OverviewView:
        """How everything stands."""
        return await self._overview.get(self._read_overview)

    async def _read_overview(self) -> OverviewView:
        found = await self._found()
        rates, latency = await self._history.lately(found.now_ms)
        health: StoreView = await self._health.get(lambda: store_view(self._store))
        return overview_view(found, rates, latency, health)

    async def _found(self) -> Overview:
        return await self._store.run(self._store.operator.overview())

    async def workers(self) -> Workers:
        """The workers alone."""
        found = await self._found()
        return Workers(workers=[worker_view(worker) for worker in found.workers])

    async def series(self, name: str, points: int | None = None) -> Series:
        """The history of a range, or its last points."""
        return await self._history.series(name, await self._store.now_ms(), points)

    async def jobs(self, wanted: JobFilter, limit: int, before: int | None) -> JobsPage:
        """A page of jobs. Searches on until the page is full, the end is met, or SEARCH_S are over."""
        records: list[JobRecord] = []
        deadline = time.monotonic() + SEARCH_S
        while True:
            command = self._store.operator.find(wanted, before, limit - len(records), SEARCH_STEP)
            found = await self._store.run(command)
            records += found.jobs
            before = found.following
            if before is None or len(records) >= limit or time.monotonic() > deadline:
                break
        return JobsPage(jobs=[job_row(record) for record in records], next=before, now_ms=await self._store.now_ms())

    async def job(self, job: str, *, shown: bool) -> JobView:
        """Everything about a job, with its text where that may be shown. Raises JobNotFound."""
        record = await read_job(self._store, job)
        if record is None:
            raise JobNotFound("There is no such job.")
        redis, keys = self._store.redis, self._store.keys
        async with redis.pipeline(transaction=False) as pipe:
            pipe.get(keys.request(job)).scard(keys.watchers(job)).zrank(keys.queue(record.model), job)
            pipe.lrange(keys.log(job), *(TAIL if shown else NOTHING))
            raw, watchers, position, log = await pipe.execute()
        request = _request(raw)
        text = _text(request, log, record) if shown else TextView(shown=False)
        return job_view(record, request, watchers, position, await self._store.now_ms(), text)

    async def replay(self, job: str, *, shown: bool) -> Replay:
        """When the tokens of a job came. Raises JobNotFound, or Expired where its log is not kept any more."""
        redis, keys = self._store.redis, self._store.keys
        async with redis.pipeline(transaction=False) as pipe:
            pipe.exists(keys.job(job)).get(keys.times(job)).lrange(keys.log(job), *(WHOLE if shown else NOTHING))
            known, raw, log = await pipe.execute()
        if not known:
            raise JobNotFound("There is no such job.")
        if not raw:
            raise Expired("Nothing was generated yet, or it is not kept any more.")
        writes = token_times(raw)
        cursors = [cursor for cursor, _ in writes]
        texts = joined_texts([decode_record(entry).text for entry in log], cursors) if shown else None
        return Replay(times_ms=[ms for _, ms in writes], cursors=cursors, texts=texts)

    async def drills(self) -> Drills:
        """The scorecards that are kept."""
        found = await self._store.redis.hvals(self._store.keys.drills)
        cards = [msgspec.msgpack.decode(one, type=Drill) for one in found]
        return Drills(drills=sorted(cards, key=lambda card: card.started_ms, reverse=True))

    async def audit(self, limit: int, before: str | None) -> Audit:
        """A page of the audit log."""
        newest = f"({before}" if before else "+"
        found = await self._store.redis.xrevrange(self._store.keys.audit, newest, "-", count=limit)
        entries = [_entry(name, fields) for name, fields in found]
        return Audit(entries=entries, next=entries[-1].id if len(entries) == limit else None)


def _request(raw: bytes | None) -> JobRequest | None:
    return msgspec.msgpack.decode(raw, type=JobRequest) if raw else None


def _text(request: JobRequest | None, log: list[bytes], record: JobRecord) -> TextView:
    messages = [Message(one.role, one.content) for one in request.messages] if request else None
    kept = bool(log) or record.cursor == 0
    answer = "".join(decode_record(entry).text for entry in log)[-TAIL_CHARACTERS:]
    return TextView(shown=True, messages=messages, answer=answer if kept else None)


def _entry(name: bytes, fields: dict[bytes, bytes]) -> AuditEntry:
    texts = {field.decode(): value.decode() for field, value in fields.items()}
    return AuditEntry(id=name.decode(), at_ms=int(name.partition(b"-")[0]), **texts)
