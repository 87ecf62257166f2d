"""The POST routes of the admin API: what an admin does. Each is noted in the audit log."""

from typing import Annotated, Literal, TypeVar, get_args

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from ekiden.errors import (
    ConversationBusy,
    EkidenError,
    Expired,
    Forbidden,
    InvalidRequest,
    JobNotFound,
    ModelNotFound,
    NotApplicable,
    OutOfRange,
    QueueFull,
    TooManyJobs,
    WorkerNotFound,
)
from ekiden.roles import Role
from ekiden.store.operator import Action, Again, AgainOutcome, JobFilter, Operator, is_again
from ekiden.validation import check_priority
from ekiden_api.admin.bulk import act_on_all, ask_again, count_all, count_fitting
from ekiden_api.admin.readings import MOST_PLACE
from ekiden_api.admin.shapes import ActionDone, BulkCount, BulkDone, DrainDone, Drill, QueueDone
from ekiden_api.body import read_body
from ekiden_api.http import service_of
from ekiden_api.openapi import answer, answers, takes
from ekiden_api.refusals import must_be
from ekiden_api.service import Service

router = APIRouter(prefix="/admin/api")

T = TypeVar("T")

ACTIONS = (*get_args(Action), *get_args(Again))


class Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of what these routes take; an empty body counts as {}."""


class PriorityBody(Body, frozen=True):
    """`priority` is of the action of that name alone."""

    priority: int | None = None


class BulkBody(Body, frozen=True):
    """Without `confirm` jobs are counted; with that of the count, they are acted on."""

    action: Action | Again
    filter: JobFilter
    priority: int | None = None
    confirm: int | None = None


class ModelBody(Body, frozen=True):
    """Which queue."""

    model: str


class DrainBody(Body, frozen=True):
    """`move`: what the worker has goes on elsewhere at once."""

    move: bool = False


class DrillBody(Body, frozen=True):
    """Which worker."""

    worker: str


TAKEN = (PriorityBody, BulkBody, ModelBody, DrainBody, DrillBody)
SHAPES = (ActionDone, BulkCount, BulkDone, QueueDone, DrainDone, Drill, *TAKEN)

REFUSALS: dict[AgainOutcome, tuple[type[EkidenError], str]] = {
    AgainOutcome.MISSING: (JobNotFound, "There is no such job."),
    AgainOutcome.AGAIN: (NotApplicable, "This job was asked again already; retry the new one."),
    AgainOutcome.TOO_MANY_JOBS: (TooManyJobs, "Its user has as many unfinished jobs as one may."),
    AgainOutcome.EXPIRED: (Expired, "What the job was asked is not kept any more."),
    AgainOutcome.CONVERSATION_BUSY: (ConversationBusy, "Its conversation is busy, or went on since."),
    AgainOutcome.QUEUE_FULL: (QueueFull, "The queue is full; try again later."),
}


async def _admin(request: Request) -> Operator:
    """Raises Unauthorized and Forbidden, before anything else of the request is looked at."""
    identity = await service_of(request).access.require(request, Role.ADMIN)
    return Operator(identity.user, identity.key or "")


Admin = Annotated[Operator, Depends(_admin)]


@router.post("/jobs/{job}/{action}", openapi_extra=takes(PriorityBody), **answers(ActionDone))
async def act(request: Request, by: Admin, job: str, action: Action | Again) -> Response:
    """Do something to one job; answers with the state it was found in."""
    service = service_of(request)
    body = await _body(request, PriorityBody)
    if is_again(action):
        return answer(await _ask_again(service, job, action, by))
    priority = _priority(action, body.priority)
    [done] = await service.store.run(service.store.operator.act(action, [job], by, priority=priority))
    if done.found is None:
        raise JobNotFound("There is no such job.")
    if not done.applies:
        raise _not_applicable(action, done.found)
    return answer(ActionDone(id=job, state=done.found))


async def _ask_again(service: Service, job: str, action: Again, by: Operator) -> ActionDone:
    new, outcome, found = await ask_again(service, action, job, by)
    if outcome is AgainOutcome.NOT_APPLICABLE and found:
        raise _not_applicable(action, found)
    if outcome is not AgainOutcome.NEW or found is None:
        kind, message = REFUSALS[outcome]
        raise kind(message)
    return ActionDone(id=job, state=found, job=new)


@router.post("/bulk", openapi_extra=takes(BulkBody), **answers(BulkDone))
async def bulk(request: Request, by: Admin) -> Response:
    """Count all jobs that match, or act on those that were counted."""
    service = service_of(request)
    body = await _body(request, BulkBody)
    priority = _priority(body.action, body.priority)
    if body.confirm is None:
        now_ms = await service.store.now_ms()
        confirm = now_ms * 1000 + 999
        count = await count_all(service.store, body.filter, confirm)
        fits = await count_fitting(service.store, body.action, body.filter, confirm)
        return answer(BulkCount(count=count, fits=fits, confirm=confirm))
    if not 0 <= body.confirm <= MOST_PLACE:
        raise OutOfRange("confirm must be what the count answered.")
    return answer(await act_on_all(service, body.action, body.filter, body.confirm, priority, by))


@router.post("/models/{order}", openapi_extra=takes(ModelBody), **answers(QueueDone))
async def hold_queue(request: Request, by: Admin, order: Literal["pause", "resume"]) -> Response:
    """Hold the queue of a model, or let it go on; what runs is not touched."""
    service = service_of(request)
    model, held = (await _body(request, ModelBody)).model, order == "pause"
    if not await service.store.run(service.store.operator.hold_queue(model, held, by)):
        raise ModelNotFound("No worker ever served this model here.")
    return answer(QueueDone(model=model, paused=held))


@router.post("/workers/{worker}/{order}", openapi_extra=takes(DrainBody), **answers(DrainDone))
async def drain(request: Request, by: Admin, worker: str, order: Literal["drain", "undrain"]) -> Response:
    """Let a worker take no more jobs, or some again."""
    service = service_of(request)
    move, draining = (await _body(request, DrainBody)).move, order == "drain"
    moved = await service.store.run(service.store.operator.drain(worker, draining, move and draining, by))
    if moved is None:
        raise WorkerNotFound("There is no such worker.")
    return answer(DrainDone(worker=worker, draining=draining, moved=moved))


@router.post("/drills", openapi_extra=takes(DrillBody), **answers(Drill))
async def drill(request: Request, by: Admin) -> Response:
    """Kill a worker's process now, and watch what becomes of its jobs."""
    service = service_of(request)
    worker = (await _body(request, DrillBody)).worker
    if not service.settings.chaos_drills:
        raise Forbidden("Drills are off: set EKIDEN_CHAOS_DRILLS=true for API and workers.")
    killed = await service.store.run(service.store.operator.kill(worker, by))
    if killed is None:
        raise WorkerNotFound("There is no such worker.")
    if killed == "refused":
        raise Forbidden("This worker allows no drills: set EKIDEN_CHAOS_DRILLS=true for it.")
    return answer(await service.drills.begin(worker, killed, by.user))


async def _body(request: Request, shape: type[T]) -> T:
    """The body of a request, of this type. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(await read_body(request) or b"{}", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if str(error).endswith("`$.action`"):
            raise InvalidRequest(must_be("action", ACTIONS)) from None
        raise InvalidRequest(f"The body is not understood: {error}.") from None


def _priority(action: str, given: int | None) -> int:
    if action != "priority":
        return 0
    if given is None:
        raise InvalidRequest("priority is missing.")
    check_priority(given)
    return given


def _not_applicable(action: str, state: str) -> NotApplicable:
    return NotApplicable(f"{action} does not apply to this job, which is {state}.")
