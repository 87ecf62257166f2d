"""How a browser comes to the dashboard: a key becomes a cookie, for twelve hours."""

from typing import Any

import msgspec
import structlog
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

import ekiden
from ekiden.errors import InvalidRequest, Unauthorized
from ekiden.roles import Role
from ekiden_api.access import COOKIE, Identity, refuse_foreign_page, require, session_token
from ekiden_api.body import read_body
from ekiden_api.browser_sessions import LIFETIME_S
from ekiden_api.http import service_of

log = structlog.get_logger()

router = APIRouter(prefix="/admin/api")


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a login."""

    key: str


_LOGIN_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["key"], "properties": {"key": {"type": "string"}}}
            }
        },
    }
}


@router.get("/me")
async def me(request: Request) -> dict[str, Any]:
    """Who asks, and what this service shows and allows."""
    service = service_of(request)
    identity = await service.access.require(request, Role.VIEWER)
    return {
        "user": identity.user,
        "role": identity.role.value,
        "key": identity.key,
        "open": identity.key is None,
        "shows_text": service.settings.admin_show_text,
        "chaos_drills": service.settings.chaos_drills,
        "version": ekiden.__version__,
    }


@router.post("/login", openapi_extra=_LOGIN_SCHEMA)
async def login(request: Request) -> JSONResponse:
    """Exchange a key of a viewer or admin for a cookie; for pages of this service alone."""
    refuse_foreign_page(request)
    access = service_of(request).access
    key = await access.ring.find(_given_key(await read_body(request)))
    if key is None:
        raise Unauthorized("The API key is not known.")
    require(Identity(key.user, key.role, key.id), Role.VIEWER)
    token = await access.sessions.begin(key)
    log.info("logged_in", user=key.user, key=key.id)
    response = JSONResponse({"user": key.user, "role": key.role.value})
    response.set_cookie(COOKIE, token, max_age=LIFETIME_S, **_attributes(request))
    return response


@router.post("/logout", status_code=204)
async def logout(request: Request) -> Response:
    """End the session of the cookie; also when its key is gone already."""
    refuse_foreign_page(request)
    if token := session_token(request):
        await service_of(request).access.sessions.end(token)
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, **_attributes(request))
    return response


def _given_key(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Login).key
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest('The body must be {"key": "…"}.') from None


def _attributes(request: Request) -> dict[str, Any]:
    """`https` is also what a proxy on this machine says in X-Forwarded-Proto, which the server trusts it for."""
    return {"httponly": True, "samesite": "strict", "path": "/", "secure": request.url.scheme == "https"}
