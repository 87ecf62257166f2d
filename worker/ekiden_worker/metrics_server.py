"""The HTTP server of a worker: `/metrics` for Prometheus, and nothing else."""

import hmac
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit

import msgspec
import redis
import structlog

from ekiden.errors import EkidenError, Forbidden, StoreUnavailable, Unauthorized
from ekiden.net import bind, is_loopback
from ekiden.roles import Role
from ekiden.settings import Settings
from ekiden.store import BlockingStore, store_down
from ekiden.store.api_keys import KeyRecord, bearer_key, digest_of, id_of, list_keys
from ekiden_worker.metrics import WorkerMetrics

log = structlog.get_logger()

READ_TIMEOUT_S = 5.0
REQUEST_S = 10.0
MAX_REQUESTS = 8  # at the same time; one more is turned away
BACKLOG = 16


@contextmanager
def metrics_port(settings: Settings) -> Iterator[socket.socket | None]:
    """The bound socket that EKIDEN_METRICS_PORT asks for, or None. Raises SettingsError.

    Nobody can connect before `serving_metrics`, so that a worker which loads its model looks as absent as it is.
    """
    if settings.metrics_port is None:
        yield None
        return
    asked = settings.model_copy(update={"host": settings.metrics_host, "port": settings.metrics_port})
    with closing(bind(asked)) as bound:
        yield bound


def number_of(bound: socket.socket | None) -> int:
    """The port's number; 0 for none."""
    return int(bound.getsockname()[1]) if bound else 0


@contextmanager
def serving_metrics(settings: Settings, bound: socket.socket | None, metrics: WorkerMetrics) -> Iterator[None]:
    """Answer on a bound socket, from other threads, for the length of a `with` block."""
    if bound is None:
        yield
        return
    with closing(BlockingStore(settings)) as store:
        door = None if is_loopback(settings.metrics_host) else Door(settings, store)
        server = _Server(bound, metrics, door)
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        log.info("metrics_served", host=settings.metrics_host, port=number_of(bound))
        try:
            yield
        finally:
            server.shutdown()
            thread.join(READ_TIMEOUT_S)


class Door:
    """Lets in who gives a key of a viewer. Compares in constant time. Any thread."""

    def __init__(self, settings: Settings, store: BlockingStore) -> None:
        self._store = store
        self._configured = [(digest_of(entry.key.get_secret_value()), entry.role) for entry in settings.api_keys]

    def check(self, authorization: str) -> None:
        """Raise Unauthorized, Forbidden, or StoreUnavailable when only the store could tell."""
        if (key := bearer_key(authorization)) is None:
            raise Unauthorized("An API key is needed.")
        role = self._role_of(key)
        if role is None:
            raise Unauthorized("The API key is not known.")
        if not role.covers(Role.VIEWER):
            raise Forbidden(f"This needs a key of the role {Role.VIEWER}.")

    def _role_of(self, key: str) -> Role | None:
        digest, found = digest_of(key), None
        for known, role in self._configured:
            if hmac.compare_digest(digest, known):
                found = role
        if found or id_of(key) is None:
            return found
        for record in self._stored():
            if hmac.compare_digest(digest, record.digest):
                found = record.role
        return found

    def _stored(self) -> Iterator[KeyRecord]:
        try:
            yield from list_keys(self._store).values()
        except (redis.RedisError, OSError) as error:
            if not store_down(error):
                raise
            raise StoreUnavailable("The job store does not answer; try again.") from error


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, bound: socket.socket, metrics: WorkerMetrics, door: Door | None) -> None:
        super().__init__(bound.getsockname()[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.socket.listen(BACKLOG)
        self.metrics = metrics
        self.door = door
        self._room = threading.BoundedSemaphore(MAX_REQUESTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # A time-out of the socket counts from byte to byte.
        deadline = threading.Timer(REQUEST_S, _end, (request,))
        deadline.daemon = True
        deadline.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            deadline.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if not isinstance(error, OSError):  # its client is gone
            log.error("metrics_failed", exc_info=error)


def _end(request: socket.socket) -> None:
    with suppress(OSError):  # it has ended
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_TIMEOUT_S

    def do_GET(self) -> None:
        """Answer a scrape."""
        if self.path.partition("?")[0] != "/metrics":
            self._refuse(HTTPStatus.NOT_FOUND, "not_found", "There is /metrics alone.")
            return
        try:
            self._check()
        except EkidenError as error:
            self._refuse(error.http_status, error.code, str(error), retryable=error.retryable)
        else:
            self._answer(HTTPStatus.OK, *self.server.metrics.encoded(self.headers.get("Accept", "")))

    def _check(self) -> None:
        if self.server.door:
            self.server.door.check(self.headers.get("Authorization", ""))
        elif not _names_this_machine(self.headers.get("Host", "")):
            # A page of another site may have had its name resolved to this machine.
            raise Forbidden("This Host is not a name of this machine alone.")

    def _refuse(self, status: int, code: str, message: str, *, retryable: bool = False) -> None:
        body = {"error": {"code": code, "message": message, "retryable": retryable}}
        self._answer(status, msgspec.json.encode(body), "application/json")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """A scrape is no event."""

    def version_string(self) -> str:
        return "ekiden"


def _names_this_machine(host: str) -> bool:
    """Whether a Host header is a loopback name or address, with or without a port."""
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback(name)
