"""What each role may at every route of a real process: a new route is held to the same table."""

import asyncio
import re
import uuid
from collections.abc import Iterable, Iterator

import pytest
from starlette.routing import BaseRoute, Route, WebSocketRoute
from websockets.exceptions import InvalidStatus

from ekiden.settings import Settings, load_settings
from ekiden_api.app import create_app
from tests.support import http
from tests.support.keys import bearer
from tests.support.processes import Api, Processes, processes
from tests.support.socket import connected
from tests.support.valkey import ValkeyServer

KEYS = {role: f"key-of-{role}" for role in ("user", "viewer", "admin")}
PUBLIC = {"/", "/admin", "/admin/", "/metrics", "/healthz", "/readyz", "/openapi.json"}
SESSION = {"/admin/api/login", "/admin/api/logout"}  # see test_login.py

APP = create_app(load_settings())


def every_route(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes of an application; those of an included router are within it, or not, by the version of FastAPI."""
    for route in routes:
        included = getattr(route, "original_router", None)
        yield from every_route(included.routes) if included else (route,)


ROUTES = sorted(
    (method, re.sub(r"\{\w+(:\w+)?\}", "x", route.path))
    for route in every_route(APP.routes)
    if isinstance(route, Route)
    for method in route.methods or ()
    if method != "HEAD"
)
SOCKETS = sorted(route.path for route in every_route(APP.routes) if isinstance(route, WebSocketRoute))


def test_the_table_has_every_route() -> None:
    assert {("GET", "/v1/jobs/x"), ("GET", "/admin/api/me"), ("POST", "/admin/api/login")} <= set(ROUTES)
    assert "/v1/chat" in SOCKETS


def needed(method: str, path: str) -> str | None:
    """The least role for a route; None: it is open to everybody."""
    if path in PUBLIC or path.startswith("/admin/static/"):
        return None
    if path.startswith("/v1/"):
        return "user"
    return "viewer" if method == "GET" else "admin"


def may(role: str | None, least: str | None) -> bool:
    order = (None, *KEYS)
    return order.index(role) >= order.index(least)


@pytest.fixture(scope="module")
def api(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    settings: Settings = load_settings(redis_url=valkey.url, key_prefix=f"test-{uuid.uuid4().hex[:12]}")
    given = ",".join(f"{role[0]}:{key}:{role}" for role, key in KEYS.items())
    group: Processes
    with processes(settings, tmp_path_factory.mktemp("roles")) as group:
        yield group.api(EKIDEN_API_KEYS=given, EKIDEN_CHAOS_DRILLS="true", EKIDEN_ADMIN_SHOW_TEXT="true")


@pytest.mark.parametrize("role", [None, *KEYS])
@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] not in SESSION])
def test_a_route_is_for_its_role_and_those_above(api: Api, method: str, path: str, role: str | None) -> None:
    headers = bearer(KEYS[role]) if role else {}
    body: dict[str, str] | None = {} if method in ("POST", "PATCH", "PUT") else None
    response = http.request(method, f"{api.http}{path}", headers=headers, json=body)
    if may(role, needed(method, path)):
        assert response.status_code not in (401, 403)
    elif role is None:
        assert (response.status_code, response.json()["error"]["code"]) == (401, "unauthorized")
    else:
        assert (response.status_code, response.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize("role", [None, *KEYS])
@pytest.mark.parametrize("path", SOCKETS)
def test_a_socket_is_for_its_role_and_those_above(api: Api, path: str, role: str | None) -> None:
    async def shake() -> int:
        # A browser cannot send a header.
        offered = ["ekiden.v1", *([f"ekiden.bearer.{KEYS[role]}"] if role else [])]
        try:
            async with connected(f"ws://127.0.0.1:{api.port}{path}", subprotocols=offered):
                return 101
        except InvalidStatus as refusal:
            return refusal.response.status_code

    expected = 101 if may(role, needed("GET", path)) else 401 if role is None else 403
    assert asyncio.run(shake()) == expected


def test_who_asks_is_told(api: Api) -> None:
    told = {
        role: http.get(f"{api.http}/admin/api/me", headers=bearer(KEYS[role])).json() for role in ("viewer", "admin")
    }
    common = {"open": False, "shows_text": True, "chaos_drills": True, "version": APP.version}
    assert told["viewer"] == {"user": "v", "role": "viewer", "key": "env-2", **common}
    chat = [http.get(f"{api.http}/v1/me", headers=bearer(key)).json() for key in KEYS.values()]
    assert chat == [{"user": role[0], "role": role} for role in KEYS]
    assert told["admin"] == {"user": "a", "role": "admin", "key": "env-3", **common}
