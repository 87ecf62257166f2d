"""Who asks: keys of the environment, roles, and what a browser adds by itself. Needs no store."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from ekiden.errors import Forbidden, StoreUnavailable, Unauthorized
from ekiden.roles import Role
from ekiden.settings import load_settings
from ekiden.store import Store
from ekiden.store.api_keys import digest_of, id_of, is_user_name, make_key
from ekiden_api import key_ring
from ekiden_api.access import Access, Identity, refuse_foreign_page, require, session_token
from tests.support.nowhere import NOWHERE

KEYS = "ada:key-A,bob:key_B:viewer,ada:key-C:admin"


def connection(path: str = "/v1/models", method: str = "GET", kind: str = "http", **headers: str) -> HTTPConnection:
    encoded = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return HTTPConnection(
        {"type": kind, "path": path, "method": method, "headers": encoded, "client": ("127.0.0.1", 5)}
    )


def identity(asking: HTTPConnection, subprotocols: Sequence[str] = (), **settings: Any) -> Identity:
    """Who asks, of a service whose store does not answer."""
    given = load_settings(**{"redis_url": f"redis://{NOWHERE[0]}", "api_keys": KEYS, **settings})

    async def ask() -> Identity:
        store = Store(given)
        try:
            return await Access(given, store).identify(asking, subprotocols)
        finally:
            await store.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("header", ["Bearer key-A", "bearer key-A", "BEARER  key-A "])
def test_the_keys_user_is_who_asks(header: str) -> None:
    assert identity(connection(authorization=header)) == Identity("ada", Role.USER, "env-1")
    assert identity(connection(authorization="Bearer key_B")) == Identity("bob", Role.VIEWER, "env-2")
    assert identity(connection(authorization="Bearer key-C")) == Identity("ada", Role.ADMIN, "env-3")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "key-A", "Basic key-A", "Bearer key-a", "Bearer key-A key_B", "Bearer kéy", "Bearer ada"],
)
def test_an_unknown_key_is_refused(header: str) -> None:
    with pytest.raises(Unauthorized):
        identity(connection(authorization=header))


def test_a_browser_gives_its_key_as_a_subprotocol() -> None:
    assert identity(connection(), ["ekiden.v1", "ekiden.bearer.key_B"]).user == "bob"
    for offered in (["ekiden.v1"], ["ekiden.bearer."], ["ekiden.bearer.x"], ["key_B"]):
        with pytest.raises(Unauthorized):
            identity(connection(), offered)


def test_what_only_the_store_could_tell_is_not_guessed() -> None:
    for asking in (
        connection(authorization=f"Bearer {make_key().text}"),
        connection("/admin", cookie="ekiden_session=x"),
    ):
        with pytest.raises(StoreUnavailable):
            identity(asking)
    with pytest.raises(StoreUnavailable):
        identity(connection(), api_keys="")
    with pytest.raises(Unauthorized):
        identity(connection(), api_keys="", host="0.0.0.0")


def test_every_key_is_compared_in_constant_time_also_with_an_unknown_id(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(left: str, right: str) -> bool:
        compared.append((left, right))
        return left == right

    monkeypatch.setattr(key_ring.hmac, "compare_digest", compare)
    given = make_key()
    settings = load_settings(redis_url=f"redis://{NOWHERE[0]}", api_keys=KEYS)

    async def ask(ring: key_ring.KeyRing) -> key_ring.Key | None:
        async def nothing_new() -> None:
            pass

        monkeypatch.setattr(ring, "refresh", nothing_new)
        return await ring.find(given.text)

    assert asyncio.run(ask(key_ring.KeyRing(settings, Store(settings)))) is None
    # Each of the environment's keys, though none fits, and one for the id that is not there.
    assert [left for left, _ in compared] == [given.digest] * 4


@pytest.mark.parametrize(
    ("role", "covered"),
    [(Role.USER, {"user"}), (Role.VIEWER, {"user", "viewer"}), (Role.ADMIN, {"user", "viewer", "admin"})],
)
def test_a_role_may_what_those_before_it_may(role: Role, covered: set[str]) -> None:
    for needed in Role:
        assert role.covers(needed) is (needed in covered)
        for key in ("3f9a01bc", None):
            asks = Identity("ada", role, key)
            if needed in covered:
                require(asks, needed)
            else:
                with pytest.raises(Forbidden):
                    require(asks, needed)


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("/admin", True),
        ("/admin/", True),
        ("/admin/api/me", True),
        ("/admin/live", True),
        ("/metrics", True),
        ("/v1/models", False),
        ("/v1/chat", False),
        ("/", False),
        ("/administrator", False),
        ("/metrics/x", False),
        ("/v1/admin/", False),
    ],
)
def test_a_cookie_counts_for_operators_paths_alone(path: str, counts: bool) -> None:
    assert (session_token(connection(path, cookie="a=b; ekiden_session=t")) == "t") is counts


OWN = {"host": "localhost:8000", "origin": "http://localhost:8000"}
JSON = {"content_type": "application/json"}


@pytest.mark.parametrize(
    ("kind", "method", "headers", "passes"),
    [
        ("http", "GET", {}, True),
        ("http", "HEAD", {"origin": "https://evil.com"}, True),
        ("http", "POST", OWN | JSON, True),
        ("http", "POST", OWN | {"content_type": "Application/JSON; charset=utf-8"}, True),
        ("http", "POST", OWN, False),
        ("http", "POST", OWN | {"content_type": "text/plain"}, False),
        ("http", "POST", OWN | {"content_type": "application/json-patch"}, False),
        ("http", "POST", JSON | {"host": "localhost:8000"}, False),
        ("http", "POST", OWN | JSON | {"origin": "http://localhost:3000"}, False),
        ("http", "DELETE", OWN | JSON | {"origin": "null"}, False),
        ("websocket", "GET", OWN, True),
        ("websocket", "GET", {"host": "localhost:8000"}, False),
        ("websocket", "GET", OWN | {"origin": "http://localhost:3000"}, False),
    ],
)
def test_only_a_page_of_the_service_acts_by_what_the_browser_adds(
    kind: str, method: str, headers: dict[str, str], passes: bool
) -> None:
    asking = connection("/admin/api/logout", method, kind, **headers)
    if passes:
        refuse_foreign_page(asking)
    else:
        with pytest.raises(Forbidden):
            refuse_foreign_page(asking)


def test_a_new_key_names_its_id_and_hides_its_secret() -> None:
    key = make_key()
    assert id_of(key.text) == key.id
    assert key.text.isascii()
    assert key.text.startswith(f"ek_{key.id}_")
    assert len(key.text) == len("ek_") + 8 + 1 + 43
    assert key.text not in repr(key)
    assert key.digest == digest_of(key.text) != digest_of(make_key().text)


@pytest.mark.parametrize("text", ["", "ek_", "ek_3f9a01bc", "ek_3f9a01bc_", "ek_3F9A01BC_" + "a" * 43, "secret"])
def test_other_texts_name_no_id(text: str) -> None:
    assert id_of(text) is None


@pytest.mark.parametrize(
    ("name", "fits"),
    [("alice", True), ("日本", True), ("a@b.c", True), ("", False), ("a b", False), ("a:b", False), ("a,b", False)],
)
def test_a_users_name_fits_where_names_go(name: str, fits: bool) -> None:
    assert is_user_name(name) is fits
    assert not is_user_name("a" * 65)
    assert not is_user_name("a\x07")
