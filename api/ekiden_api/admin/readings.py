"""The GET routes of the admin API."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ekiden.jobs import State
from ekiden.roles import Role
from ekiden.store.operator import JobFilter
from ekiden_api.access import Identity
from ekiden_api.admin.desk import Desk
from ekiden_api.admin.shapes import Audit, Drills, JobsPage, JobView, OverviewView, Replay, Series, Workers
from ekiden_api.admin.shown import MAX_PAGE
from ekiden_api.http import service_of
from ekiden_api.openapi import answer, answers
from ekiden_api.service import Service

router = APIRouter(prefix="/admin/api")

SHAPES = (OverviewView, Workers, Series, JobsPage, JobView, Replay, Drills, Audit)
MOST_MS = 9_000_000_000_000  # a place (ms · 1000) stays exact in a double up to there

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Moment = Annotated[int | None, Query(ge=0, le=MOST_MS)]
StreamId = Annotated[str | None, Query(pattern=r"^[0-9]{1,15}-[0-9]{1,9}$")]


async def _desk(request: Request) -> Desk:
    """The desk, for a viewer. Raises Unauthorized and Forbidden."""
    service = service_of(request)
    await service.access.require(request, Role.VIEWER)
    return service.desk


def shows_text(service: Service, identity: Identity) -> bool:
    """Whether this one may read what users say."""
    return service.settings.admin_show_text and identity.role.covers(Role.ADMIN)


@router.get("/overview", **answers(OverviewView))
async def overview(request: Request) -> Response:
    """How everything stands: jobs, queues, rates, latencies, workers, API processes, the store."""
    return answer(await (await _desk(request)).overview())


@router.get("/workers", **answers(Workers))
async def workers(request: Request) -> Response:
    """Every worker with a valid lease."""
    return answer(await (await _desk(request)).workers())


@router.get("/series", **answers(Series))
async def series(request: Request, range: Literal["15m", "1h", "24h"] = "15m") -> Response:  # noqa: A002
    """The history that the service keeps, in at most 360 steps."""
    return answer(await (await _desk(request)).series(range))


@router.get("/jobs", **answers(JobsPage))
async def jobs(
    request: Request,
    limit: Limit = 50,
    cursor: Annotated[int | None, Query(ge=0, le=1000 * MOST_MS)] = None,
    state: State | None = None,
    user: str | None = None,
    model: str | None = None,
    worker: str | None = None,
    code: str | None = None,
    id: str | None = None,  # noqa: A002
    from_ms: Moment = None,
    to_ms: Moment = None,
) -> Response:
    """Jobs, newest first, without any text; `cursor` is the `next` of the page before.

    A page may be short with a `next` all the same: the search went through its share of records.
    """
    desk = await _desk(request)
    wanted = JobFilter(
        state=state, user=user, model=model, worker=worker, code=code, id=id, from_ms=from_ms, to_ms=to_ms
    )
    return answer(await desk.jobs(wanted, limit, cursor))


@router.get("/jobs/{job}", **answers(JobView))
async def job(request: Request, job: str) -> Response:
    """Everything about one job; its text for an admin alone, where EKIDEN_ADMIN_SHOW_TEXT allows it."""
    service = service_of(request)
    identity = await service.access.require(request, Role.VIEWER)
    return answer(await service.desk.job(job, shown=shows_text(service, identity)))


@router.get("/jobs/{job}/replay", **answers(Replay))
async def replay(request: Request, job: str) -> Response:
    """When the tokens of a job came."""
    service = service_of(request)
    identity = await service.access.require(request, Role.VIEWER)
    return answer(await service.desk.replay(job, shown=shows_text(service, identity)))


@router.get("/drills", **answers(Drills))
async def drills(request: Request) -> Response:
    """The scorecards of workers that were killed on purpose, the newest first."""
    return answer(await (await _desk(request)).drills())


@router.get("/audit", **answers(Audit))
async def audit(request: Request, limit: Limit = 50, cursor: StreamId = None) -> Response:
    """What operators did, the newest first."""
    return answer(await (await _desk(request)).audit(limit, cursor))
