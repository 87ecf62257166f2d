"""The addresses and pages the service answers to: this machine, Host and Origin."""

from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Message, Receive, Scope, Send

from ekiden.net import is_loopback
from ekiden.settings import load_settings
from ekiden_api.allow_lists import AllowLists, is_local, is_own_origin


def connection(client: str | None, host: str | None = "localhost:8000") -> HTTPConnection:
    headers = [] if host is None else [(b"host", host.encode())]
    return HTTPConnection({"type": "http", "headers": headers, "client": None if client is None else (client, 5000)})


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "127.8.9.1", "::1", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1"])
def test_this_machine_is_loopback(name: str) -> None:
    assert is_loopback(name)
    if name != "localhost":
        assert is_local(connection(name))


@pytest.mark.parametrize(
    "name",
    [
        "0.0.0.0",
        "::",
        "",
        "0",
        "192.168.0.1",
        "::ffff:10.0.0.1",
        "fe80::1",
        "example.com",
        "localhost.evil.com",
        "127.1",
    ],
)
def test_all_else_is_not(name: str) -> None:
    assert not is_loopback(name)
    assert not is_local(connection(name))
    assert not is_local(connection("127.0.0.1", name))


def test_a_connection_without_a_peer_address_or_name_is_not_from_here() -> None:
    assert not is_local(connection(None))
    assert not is_local(connection("127.0.0.1", None))


@pytest.mark.parametrize(
    ("origin", "host", "own"),
    [
        ("http://localhost:8000", "localhost:8000", True),
        ("https://Chat.example.com", "chat.EXAMPLE.com", True),
        ("http://[::1]:80", "[::1]:80", True),
        ("http://localhost:8001", "localhost:8000", False),
        ("http://localhost:8000", "127.0.0.1:8000", False),
        ("https://evil.com", "chat.example.com", False),
        ("null", "null", False),
        ("", "", False),
        ("http://", "", False),
        ("file://localhost", "localhost", False),
        (None, "localhost", False),
        ("http://localhost", None, False),
    ],
)
def test_a_page_of_the_service_has_the_services_host(origin: str | None, host: str | None, own: bool) -> None:
    given = {"origin": origin, "host": host}
    assert is_own_origin(Headers({name: value for name, value in given.items() if value is not None})) is own


class Site:
    """Asks the allow-lists about a Host and an Origin."""

    def __init__(self, **settings: Any) -> None:
        self._lists = AllowLists(self._application, load_settings(**settings))
        self._reached = False

    async def _application(self, _scope: Scope, _receive: Receive, _send: Send) -> None:
        self._reached = True

    def answers(self, host: str | None, origin: str | None = None) -> bool:
        """Whether such a request reaches the application; else it must be answered with 403."""
        import asyncio

        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        headers = [(b"host", host.encode())] if host is not None else []
        headers += [(b"origin", origin.encode())] if origin is not None else []
        self._reached = False
        asyncio.run(self._lists({"type": "http", "headers": headers}, receive, send))
        assert self._reached or sent[0]["status"] == 403
        return self._reached


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LocalHost:8000",
        "localhost.",
        "127.0.0.1:1",
        "127.0.0.2:8000",
        "[::1]",
        "[::1]:80",
    ],
)
def test_loopback_hosts_are_answered(host: str) -> None:
    assert Site().answers(host)


@pytest.mark.parametrize(
    "host",
    [None, "", ":8000", "evil.com", "evil.com:8000", "localhost.evil.com", "evil.com@localhost", "localhost@evil.com",
     "localhost/evil.com", "localhost:80:80", "localhost:x", "::1", "[::1", "[fe80::1]", "0.0.0.0",
     "127.0.0.1.evil.com", "localhost, evil.com", "localhost..", "localhost\\evil.com", "evil.com#localhost"],
)  # fmt: skip
def test_foreign_and_malformed_hosts_are_refused(host: str | None) -> None:
    assert not Site().answers(host)


def test_configured_hosts_are_answered() -> None:
    site = Site(allowed_hosts="Chat.Example.com, [2001:db8::1]")
    for host in ("chat.example.com", "CHAT.example.com:443", "chat.example.com.", "[2001:db8::1]:8000", "localhost"):
        assert site.answers(host)
    for host in ("example.com", "a.chat.example.com", "[2001:db8::2]"):
        assert not site.answers(host)
    assert Site(allowed_hosts="*").answers("any.example.org:1")
    assert not Site(allowed_hosts="*").answers("")


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "http://localhost:8000",
        "http://localhost",
        "https://127.0.0.1:3000",
        "http://[::1]:8000",
        "HTTP://LOCALHOST",
    ],
)
def test_pages_of_this_machine_may_connect(origin: str | None) -> None:
    assert Site().answers("localhost:8000", origin)


@pytest.mark.parametrize(
    "origin",
    ["", "null", "http://evil.com", "https://evil.com:8000", "http://localhost.evil.com", "http://evil.com@localhost",
     "file://", "file://localhost", "chrome-extension://localhost", "localhost:8000", "http://", "//localhost", "http://[::1"],
)  # fmt: skip
def test_pages_of_other_sites_may_not(origin: str) -> None:
    assert not Site().answers("localhost:8000", origin)


def test_configured_and_own_origins_may_connect() -> None:
    site = Site(
        allowed_hosts="chat.example.com", allowed_origins="https://app.example.com/, https://other.example.com:444"
    )
    for origin in ("https://chat.example.com", "https://APP.example.com", "https://other.example.com:444"):
        assert site.answers("chat.example.com", origin)
    for origin in ("http://app.example.com", "https://other.example.com", "https://chat.example.com:8443", "null"):
        assert not site.answers("chat.example.com", origin)
    assert Site(allowed_origins="*").answers("localhost", "https://anywhere.example.com")
    assert Site(allowed_origins="null").answers("localhost", "null")
