"""What operators see of the fleet: read-only, for viewers."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request

from ekiden.roles import Role
from ekiden.store.fleet import live_workers
from ekiden.store.records import JobRecord, read_jobs
from ekiden_api.http import service_of

router = APIRouter(prefix="/admin/api")


@router.get("/workers")
async def workers(request: Request) -> dict[str, Any]:
    """Every worker with a valid lease."""
    service = service_of(request)
    await service.access.require(request, Role.VIEWER)
    found = await live_workers(service.store)
    return {"workers": msgspec.to_builtins(found)}


@router.get("/jobs")
async def jobs(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[int | None, Query(ge=0)] = None,
    state: str | None = None,
) -> dict[str, Any]:
    """Jobs, newest first, without any text; `cursor` is the `next` of the page before."""
    service = service_of(request)
    await service.access.require(request, Role.VIEWER)
    before = "+inf" if cursor is None else f"({cursor}"
    page = await service.store.redis.zrevrangebyscore(
        service.store.keys.jobs, before, "-inf", start=0, num=limit, withscores=True
    )
    records = await read_jobs(service.store, [job.decode() for job, _ in page])
    rows = [_row(record) for record in records if record]
    following = int(page[-1][1]) if len(page) == limit else None
    return {"jobs": [row for row in rows if state is None or row["state"] == state], "next": following}


def _row(record: JobRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "state": record.state.value,
        "attempt": record.attempt,
        "deaths": record.deaths,
        "worker": record.owner,
        "cursor": record.cursor,
        "user": record.user,
        "model": record.model,
        "priority": record.priority,
        "created_ms": record.created_ms,
        "claimed_ms": record.claimed_ms,
        "first_ms": record.first_ms,
        "ended_ms": record.ended_ms,
        "finish_reason": record.finish_reason,
        "error_code": record.error_code,
    }
