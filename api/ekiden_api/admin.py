"""What operators see of the fleet: read-only, and from this machine alone."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request

from ekiden.store.fleet import live_workers
from ekiden_api.access import require_loopback
from ekiden_api.http import service_of

router = APIRouter(prefix="/admin/api")

_JOB_FIELDS = (
    "state",
    "attempt",
    "deaths",
    "owner",
    "n",
    "user",
    "model",
    "prio",
    "created",
    "claimed",
    "first",
    "ended",
)
_JOB_NUMBERS = ("attempt", "deaths", "n", "prio", "created", "claimed", "first", "ended")
_JOB_NAMES = {"n": "cursor", "prio": "priority", "created": "created_ms", "claimed": "claimed_ms", "first": "first_ms"}
_JOB_NAMES |= {"ended": "ended_ms", "owner": "worker"}


@router.get("/workers")
async def workers(request: Request) -> dict[str, Any]:
    """Every worker with a valid lease."""
    require_loopback(request)
    found = await live_workers(service_of(request).store)
    return {"workers": msgspec.to_builtins(found)}


@router.get("/jobs")
async def jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[int | None, Query(ge=0)] = None,
    state: str | None = None,
) -> dict[str, Any]:
    """Jobs, newest first, without any text; `cursor` is the `next` of the page before."""
    require_loopback(request)
    service = service_of(request)
    before = "+inf" if cursor is None else f"({cursor}"
    page = await service.store.redis.zrevrangebyscore(
        service.store.keys.jobs, before, "-inf", start=0, num=limit, withscores=True
    )
    async with service.store.redis.pipeline(transaction=False) as pipe:
        for job, _ in page:
            pipe.hgetall(service.store.keys.job(job.decode()))
        records = await pipe.execute()
    rows = [_row(job.decode(), record) for (job, _), record in zip(page, records, strict=True) if record]
    following = int(page[-1][1]) if len(page) == limit else None
    return {"jobs": [row for row in rows if state is None or row["state"] == state], "next": following}


def _row(job: str, record: dict[bytes, bytes]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: record[name.encode()].decode() for name in _JOB_FIELDS if name.encode() in record}
    fields |= {name: int(fields[name]) for name in _JOB_NUMBERS if name in fields}
    row = {"id": job} | {_JOB_NAMES.get(name, name): fields.get(name) for name in _JOB_FIELDS}
    for name, shown in (("reason", "finish_reason"), ("code", "error_code")):
        value = record.get(name.encode())
        row[shown] = value.decode() if value else None
    return row
