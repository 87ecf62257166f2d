"""Which Host and Origin headers this service answers to, so that no web page can reach a service on loopback."""

import re

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ekiden.errors import Forbidden
from ekiden.net import is_loopback
from ekiden.settings import Settings
from ekiden_api.refusals import error_response

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:,/?#@\[\]\\]+)(:\d*)?")


class AllowLists:
    """ASGI middleware: refuses foreign Host and Origin headers."""

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
        origin_host = _host_of(origin)
        origin_name = None if origin_host is None else _host_name(origin_host)
        if origin_name is None or not (origin_host == host.lower() or is_loopback(origin_name)):
            raise Forbidden("This Origin is not on the list of EKIDEN_ALLOWED_ORIGINS.")


def is_own_origin(headers: Headers) -> bool:
    """Whether a page of this very service asks. The scheme does not count: TLS may end at a proxy."""
    origin_host = _host_of(headers.get("origin", ""))
    return origin_host is not None and origin_host == headers.get("host", "").lower()


def is_local(connection: HTTPConnection) -> bool:
    """Whether a request comes from this machine, and under a loopback name.

    The name tells apart what a proxy on this machine passes on without saying for whom.
    """
    name = _host_name(connection.headers.get("host", ""))
    client = connection.client
    return name is not None and is_loopback(name) and client is not None and is_loopback(client.host)


def _host_of(origin: str) -> str | None:
    """The `name:port` of a page's origin; None when it is not one of the web."""
    scheme, _, host = origin.lower().partition("://")
    return host or None if scheme in ("http", "https") else None


def _host_name(host: str) -> str | None:
    """The name in a `name:port`; None when it is not of that form."""
    found = _HOST.fullmatch(host)
    return _plain_name(found.group(1)) if found else None


def _plain_name(name: str) -> str:
    return name.lower().removesuffix(".").removeprefix("[").removesuffix("]")
