"""The GET routes of the admin API."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from ekiden.errors import InvalidRequest
from ekiden.jobs import State
from ekiden.roles import Role
from ekiden.store.operator import JobFilter
from ekiden_api.access import Identity
from ekiden_api.admin.desk import Desk
from ekiden_api.admin.shapes import Audit, Drills, JobsPage, JobView, OverviewView, Replay, Series, Workers
from ekiden_api.admin.shown import MAX_PAGE, RangeName
from ekiden_api.http import service_of
from ekiden_api.openapi import answer, answers
from ekiden_api.service import Service

router = APIRouter(prefix="/admin/api")

SHAPES = (OverviewView, Workers, Series, JobsPage, JobView, Replay, Drills, Audit)
SHOWN_NAME = 40  # so much of an unknown parameter is said back
MOST_MS = 9_000_000_000_000
MOST_PLACE = 1000 * MOST_MS  # a place in the indexes stays exact in a double up to there

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Moment = Annotated[int | None, Query(ge=0, le=MOST_MS)]
StreamId = Annotated[str | None, Query(pattern=r"^[1-9][0-9]{0,14}-[0-9]{1,9}$")]


@dataclass(frozen=True, slots=True)
class Reader:
    """A viewer who asks, and where to read."""

    desk: Desk
    shows_text: bool


async def _reader(request: Request) -> Reader:
    """Raises Unauthorized and Forbidden, before anything else of the request is looked at."""
    service = service_of(request)
    identity = await service.access.require(request, Role.VIEWER)
    _refuse_unknown(request)
    return Reader(service.desk, shows_text(service, identity))


Viewer = Annotated[Reader, Depends(_reader)]


def _refuse_unknown(request: Request) -> None:
    """Raise InvalidRequest for a parameter that the route does not take: a filter with a typo would show all jobs."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            rest = f"it takes {', '.join(known)}" if known else "it takes none"
            raise InvalidRequest(f"There is no parameter {name[:SHOWN_NAME]!r} here; {rest}.")


def shows_text(service: Service, identity: Identity) -> bool:
    """Whether this one may read what users say."""
    return service.settings.admin_show_text and identity.role.covers(Role.ADMIN)


@router.get("/overview", **answers(OverviewView))
async def overview(viewer: Viewer) -> Response:
    """How everything stands: jobs, queues, rates, latencies, workers, API processes, the store."""
    return answer(await viewer.desk.overview())


@router.get("/workers", **answers(Workers))
async def workers(viewer: Viewer) -> Response:
    """Every worker with a valid lease."""
    return answer(await viewer.desk.workers())


@router.get("/series", **answers(Series))
async def series(viewer: Viewer, range: RangeName = "15m") -> Response:  # noqa: A002
    """The history that the service keeps, in at most 360 steps."""
    return answer(await viewer.desk.series(range))


@router.get("/jobs", **answers(JobsPage))
async def jobs(
    viewer: Viewer,
    limit: Limit = 50,
    cursor: Annotated[int | None, Query(ge=0, le=MOST_PLACE)] = None,
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
    wanted = JobFilter(
        state=state, user=user, model=model, worker=worker, code=code, id=id, from_ms=from_ms, to_ms=to_ms
    )
    return answer(await viewer.desk.jobs(wanted, limit, cursor))


@router.get("/jobs/{job}", **answers(JobView))
async def job(viewer: Viewer, job: str) -> Response:
    """Everything about one job; its text for an admin alone, where EKIDEN_ADMIN_SHOW_TEXT allows it."""
    return answer(await viewer.desk.job(job, shown=viewer.shows_text))


@router.get("/jobs/{job}/replay", **answers(Replay))
async def replay(viewer: Viewer, job: str) -> Response:
    """When the tokens of a job came."""
    return answer(await viewer.desk.replay(job, shown=viewer.shows_text))


@router.get("/drills", **answers(Drills))
async def drills(viewer: Viewer) -> Response:
    """The scorecards of workers that were killed on purpose, the newest first."""
    return answer(await viewer.desk.drills())


@router.get("/audit", **answers(Audit))
async def audit(viewer: Viewer, limit: Limit = 50, cursor: StreamId = None) -> Response:
    """What operators did, the newest first."""
    return answer(await viewer.desk.audit(limit, cursor))
