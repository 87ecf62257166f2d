"""The HTTP API: health, models, jobs."""

from typing import Any

import msgspec
import redis
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ekiden.errors import JobNotFound
from ekiden.protocol import Usage
from ekiden.store.fleet import live_workers
from ekiden.store.records import read_job
from ekiden.wire import decode_record
from ekiden_api.service import Service

router = APIRouter()


def service_of(request: Request) -> Service:
    """The process's parts."""
    service: Service = request.app.state.service
    return service


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """This process runs."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request) -> JSONResponse:
    """A chat would be accepted; with EKIDEN_READY_NEEDS_WORKER also: a worker would answer it."""
    service = service_of(request)
    missing = [] if service.link.listening and service.link.telling else ["store"]
    try:
        workers = len(await live_workers(service.store))
    except (redis.RedisError, OSError):
        workers, missing = 0, ["store"]
    if service.settings.ready_needs_worker and not workers:
        missing.append("worker")
    body = {"status": "waiting" if missing else "ready", "missing": missing, "workers": workers}
    return JSONResponse(body, 503 if missing else 200)


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The models jobs can ask for; the default one first."""
    service = service_of(request)
    await service.access.identify(request)
    known = await service.models()
    default = service.settings.model_name
    names = [default, *sorted(name for name in known if name != default)]
    data = [
        {
            "id": name,
            "object": "model",
            "owned_by": "ekiden",
            "context_tokens": known.get(name),
            "default": name == default,
        }
        for name in names
    ]
    return {"object": "list", "data": data}


@router.get("/v1/me")
async def me(request: Request) -> dict[str, str]:
    """Who asks: the chat page offers the dashboard to those who may see it."""
    identity = await service_of(request).access.identify(request)
    return {"user": identity.user, "role": identity.role.value}


@router.get("/v1/jobs/{job}")
async def get_job(request: Request, job: str) -> dict[str, Any]:
    """A job of this user: state, usage, and its text while that is kept."""
    service = service_of(request)
    user = (await service.access.identify(request)).user
    record = await read_job(service.store, job)
    if record is None or record.user != user:
        raise JobNotFound("There is no such job.")
    # Up to what the record says: the log may have grown since.
    count = record.cursor
    log = await service.store.redis.lrange(service.store.keys.log(job), 0, count - 1) if count else []
    usage = Usage(record.prompt_tokens, count, record.cached_tokens, record.retokenized_tokens)
    return {
        "id": job,
        "object": "job",
        "state": record.state.value,
        "model": record.model,
        "conversation": record.conversation,
        "attempt": record.attempt,
        "cursor": count,
        "finish_reason": record.finish_reason,
        "error": {"code": record.error_code, "message": record.error_message} if record.error_code else None,
        "usage": msgspec.to_builtins(usage),
        "created_ms": record.created_ms,
        "ended_ms": record.ended_ms,
        "text": "".join(decode_record(entry).text for entry in log) if log or not count else None,
    }


@router.delete("/v1/jobs/{job}")
async def cancel_job(request: Request, job: str) -> dict[str, Any]:
    """Ask a job of this user to end; answers with the state it was found in."""
    service = service_of(request)
    user = (await service.access.identify(request)).user
    found = await service.store.run(service.store.commands.cancel(user, job))
    if found is None:
        raise JobNotFound("There is no such job.")
    return {"id": job, "object": "job", "state": found.value}
