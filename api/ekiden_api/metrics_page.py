"""`/metrics`, for Prometheus."""

import asyncio

import redis
from fastapi import APIRouter, Request
from fastapi.responses import Response

from ekiden.roles import Role
from ekiden.store.totals import Totals, read_totals
from ekiden_api.allow_lists import is_local
from ekiden_api.http import service_of
from ekiden_api.metrics import Scrape
from ekiden_api.service import Service

router = APIRouter()

# Prometheus gives up after ten; what this process knows by itself must have come by then.
STORE_TIMEOUT_S = 2.0


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Figures of this process and of the fleet; those of the fleet are missing while the store is away."""
    service = service_of(request)
    if not is_local(request):  # it tells nothing of users, and a scraper on this machine should need no secret
        await service.access.require(request, Role.VIEWER)
    totals = await _totals(service)
    rounds = service.rounds
    scrape = Scrape(service.metrics, service.presence.describe(), rounds.frames_sent, rounds.deltas_sent, totals)
    body, content_type = scrape.encoded(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})


async def _totals(service: Service) -> Totals | None:
    try:
        async with asyncio.timeout(STORE_TIMEOUT_S):
            models = {service.settings.model_name, *await service.models()}
            return await read_totals(service.store, sorted(models))
    except (redis.RedisError, OSError):  # TimeoutError is one of these
        return None
