"""Who a request comes from, and what that one may."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect

from ekiden.errors import Forbidden, StoreUnavailable, Unauthorized
from ekiden.protocol import BEARER_SUBPROTOCOL_PREFIX
from ekiden.roles import Role
from ekiden.settings import Settings
from ekiden.store import Store
from ekiden.store.api_keys import bearer_key, digest_of
from ekiden.store.types import ANONYMOUS
from ekiden_api.allow_lists import is_local, is_own_origin
from ekiden_api.browser_sessions import BrowserSessions
from ekiden_api.key_ring import KeyRing

log = structlog.get_logger()

COOKIE = "ekiden_session"

LOOK_S = 1.0  # how old the store's keys may get here
CLOSE_S = 2.0  # what a client may take to read that its key was revoked
POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1

_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks. `key` is the id of the key, None for the anonymous user of a service that needs none.

    `session` is the digest of the cookie, where one was given in place of a key.
    """

    user: str
    role: Role
    key: str | None
    session: str | None = field(default=None, repr=False)


def require(identity: Identity, role: Role) -> None:
    """Raise Forbidden unless this one may what `role` may."""
    if identity.role.covers(role):
        return
    if identity.key is None:
        raise Forbidden("Without a key this is open to this machine alone, under a loopback name.")
    raise Forbidden(f"This needs a key of the role {role}.")


class Access:
    """Answers who a request comes from, and ends the sockets of keys that were revoked. Event loop only."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.ring = KeyRing(settings, store)
        self.sessions = BrowserSessions(store, self.ring)
        self._sockets: dict[asyncio.Timeout, Identity] = {}

    async def require(self, connection: HTTPConnection, role: Role, subprotocols: Sequence[str] = ()) -> Identity:
        """Who asks, where that one may what `role` may: `await service.access.require(request, Role.VIEWER)`.

        On loopback without keys a request of this machine is an admin's, so that no key is needed there. Raises
        Unauthorized, Forbidden, or StoreUnavailable.
        """
        identity = await self.identify(connection, subprotocols)
        require(identity, role)
        return identity

    async def identify(self, connection: HTTPConnection, subprotocols: Sequence[str] = ()) -> Identity:
        """Who asks: by a key, by a browser's cookie, or by being on a machine that needs neither.

        `subprotocols` are those a WebSocket offered. Raises Unauthorized, StoreUnavailable, and Forbidden for a foreign
        page that uses what the browser adds by itself.
        """
        given = bearer_key(connection.headers.get("authorization", "")) or _bearer_subprotocol(subprotocols)
        if given is not None and (key := await self.ring.find(given)):
            return Identity(key.user, key.role, key.id)
        if given is None and (token := session_token(connection)) and (key := await self.sessions.find(token)):
            refuse_foreign_page(connection)
            return Identity(key.user, key.role, key.id, digest_of(token))
        if await self.ring.is_open():
            if _is_operators(connection) and "origin" in connection.headers:
                refuse_foreign_page(connection)
            return Identity(ANONYMOUS, Role.ADMIN if is_local(connection) else Role.USER, None)
        raise Unauthorized("An API key is needed." if given is None else "The API key is not known.")

    @asynccontextmanager
    async def holding(self, websocket: WebSocket, identity: Identity) -> AsyncIterator[None]:
        """Serve an accepted socket in this block: when its key is revoked the block is cancelled, the socket closed."""
        try:
            async with asyncio.timeout(None) as until:
                self._sockets[until] = identity
                self._check(until, identity, ended=())  # it may have been revoked during the handshake
                try:
                    yield
                finally:
                    del self._sockets[until]
        except TimeoutError:
            if not until.expired():
                raise
            log.info("socket_revoked", user=identity.user, key=identity.key)
            with suppress(TimeoutError, RuntimeError, WebSocketDisconnect):  # it is gone, or does not read
                async with asyncio.timeout(CLOSE_S):
                    await websocket.close(POLICY_VIOLATION, "The key is not valid any more.")

    async def look_again(self) -> None:
        """Read the keys once a second, and end what those that are gone had opened; for ever."""
        while True:
            with suppress(StoreUnavailable):  # what is known stays valid
                await self.ring.refresh()
            ended = await self._ended_sessions()
            for until, identity in self._sockets.items():
                self._check(until, identity, ended)
            await asyncio.sleep(LOOK_S)

    async def _ended_sessions(self) -> Collection[str]:
        sessions = {identity.session for identity in self._sockets.values() if identity.session}
        with suppress(StoreUnavailable):
            return await self.sessions.ended(list(sessions)) if sessions else ()
        return ()

    def _check(self, until: asyncio.Timeout, identity: Identity, ended: Collection[str]) -> None:
        if identity.key is None:
            valid = self.ring.seems_open()
        else:
            key = self.ring.get(identity.key)
            valid = key is not None and (key.user, key.role) == (identity.user, identity.role)
        if (not valid or identity.session in ended) and not until.expired():
            until.reschedule(asyncio.get_running_loop().time())


@asynccontextmanager
async def watched_access(settings: Settings, store: Store) -> AsyncIterator[Access]:
    """Access that follows the store for the length of an `async with` block."""
    access = Access(settings, store)
    looking = asyncio.create_task(_for_ever(access))
    try:
        yield access
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _for_ever(access: Access) -> None:
    while True:
        try:
            await access.look_again()
        except Exception:
            log.exception("keys_not_read")  # without this task revoked keys would stay valid
            await asyncio.sleep(LOOK_S)


def session_token(connection: HTTPConnection) -> str | None:
    """The cookie of a browser that logged in; it counts for the operators' paths alone."""
    return connection.cookies.get(COOKIE) if _is_operators(connection) else None


def _bearer_subprotocol(subprotocols: Sequence[str]) -> str | None:
    for offered in subprotocols:
        if offered.startswith(BEARER_SUBPROTOCOL_PREFIX):
            return offered.removeprefix(BEARER_SUBPROTOCOL_PREFIX)
    return None


def _is_operators(connection: HTTPConnection) -> bool:
    path: str = connection.scope["path"]
    return path in ("/admin", "/metrics") or path.startswith("/admin/")


def refuse_foreign_page(connection: HTTPConnection) -> None:
    """Raise Forbidden where something is done, or a socket opened, by a page that is not this service's own.

    For whatever a browser is let in by without showing a key. JSON is asked for as no plain form can send it.
    """
    http = connection.scope["type"] == "http"
    if http and connection.scope["method"] in _SAFE_METHODS:
        return
    if not is_own_origin(connection.headers):
        raise Forbidden("Only a page of this service may do this: Origin and Host must be the same.")
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if http and kind != "application/json":
        raise Forbidden("The Content-Type must be application/json.")
