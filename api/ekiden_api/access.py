"""Who may talk to this service: API keys, Host and Origin allow-lists, loopback-only pages."""

import hmac
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ekiden.errors import EkidenError, Forbidden, Unauthorized
from ekiden.net import is_loopback
from ekiden.protocol import BEARER_SUBPROTOCOL_PREFIX
from ekiden.settings import Settings
from ekiden.store.types import ANONYMOUS

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:,/?#@\[\]\\]+)(:\d*)?")


def error_response(error: EkidenError) -> JSONResponse:
    """An error of the HTTP API."""
    body = {"error": {"code": error.code, "message": str(error), "retryable": error.retryable}}
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else None
    return JSONResponse(body, error.http_status, headers)


class Access:
    """Answers who a request comes from. Compares keys in constant time."""

    def __init__(self, settings: Settings) -> None:
        self._keys = {user: key.get_secret_value().encode() for user, key in settings.api_keys.items()}

    def user(self, connection: HTTPConnection, subprotocols: Sequence[str] = ()) -> str:
        """The key's user; the anonymous one where no keys are set. Raises Unauthorized."""
        if not self._keys:
            return ANONYMOUS
        given = _bearer(connection.headers) or _bearer_subprotocol(subprotocols)
        if given is None:
            raise Unauthorized("An API key is needed.")
        found = None
        for user, key in self._keys.items():
            if hmac.compare_digest(given.encode(), key):
                found = user
        if found is None:
            raise Unauthorized("The API key is not known.")
        return found


def require_loopback(connection: HTTPConnection) -> None:
    """Raise Forbidden unless the request comes from this machine."""
    if connection.client is None or not is_loopback(connection.client.host):
        raise Forbidden("This page is open on loopback only.")


def _bearer(headers: Headers) -> str | None:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


def _bearer_subprotocol(subprotocols: Sequence[str]) -> str | None:
    for offered in subprotocols:
        if offered.startswith(BEARER_SUBPROTOCOL_PREFIX):
            return offered.removeprefix(BEARER_SUBPROTOCOL_PREFIX)
    return None


class AllowLists:
    """ASGI middleware: refuses foreign Host and Origin headers, so that no web page can reach a service on loopback."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._any = "*" in settings.allowed_hosts
        self._hosts = {_plain_name(host) for host in settings.allowed_hosts}
        self._origins = {origin.rstrip("/").lower() for origin in settings.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            try:
                self._check(headers.get("host", ""), headers.get("origin"))
            except Forbidden as error:
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, host: str, origin: str | None) -> None:
        name = _host_name(host)
        if name is None or not (self._any or name in self._hosts or is_loopback(name)):
            raise Forbidden("This Host is not on the list of EKIDEN_ALLOWED_HOSTS.")
        if origin is None or origin.lower() in self._origins or "*" in self._origins:
            return
        scheme, _, origin_host = origin.partition("://")
        origin_name = _host_name(origin_host) if scheme.lower() in ("http", "https") else None
        own = origin_host.lower() == host.lower()
        if origin_name is None or not (own or is_loopback(origin_name)):
            raise Forbidden("This Origin is not on the list of EKIDEN_ALLOWED_ORIGINS.")


def _host_name(host: str) -> str | None:
    """The name in a `name:port`; None when it is not of that form."""
    found = _HOST.fullmatch(host)
    return _plain_name(found.group(1)) if found else None


def _plain_name(name: str) -> str:
    return name.lower().removesuffix(".").removeprefix("[").removesuffix("]")
