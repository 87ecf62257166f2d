"""A browser's login at a real process: the cookie, where it counts, what ends it, and which pages may use it."""

import json
import uuid
from collections.abc import Iterator

import httpx
import pytest

from ekiden.roles import Role
from ekiden.settings import Settings, load_settings
from ekiden.store import BlockingStore
from ekiden.store.api_keys import NewKey, revoke_key
from tests.support import http
from tests.support.keys import kept_key
from tests.support.processes import Api, Processes, processes
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

ENV_KEY = "key-of-vera"


@pytest.fixture(scope="module")
def settings(valkey: ValkeyServer) -> Settings:
    return load_settings(redis_url=valkey.url, key_prefix=f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def fleet(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes(settings, tmp_path_factory.mktemp("login")) as group:
        yield group


@pytest.fixture(scope="module")
def api(fleet: Processes) -> Api:
    return fleet.api(EKIDEN_API_KEYS=f"vera:{ENV_KEY}:viewer,ulf:key-of-ulf", EKIDEN_LOG_LEVEL="debug")


def page(api: Api, **changed: str | None) -> dict[str, str]:
    """The headers of a page of the service; None leaves one out."""
    headers = {"Origin": api.http, "Content-Type": "application/json"} | changed
    return {name: value for name, value in headers.items() if value is not None}


def login(api: Api, key: NewKey | str, headers: dict[str, str] | None = None) -> httpx.Response:
    text = key if isinstance(key, str) else key.text
    body = json.dumps({"key": text}).encode()  # not httpx's json, which adds a Content-Type
    return http.request("POST", f"{api.http}/admin/api/login", content=body, headers=headers or page(api))


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def token_of(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.cookies["ekiden_session"]


def me(api: Api, token: str) -> httpx.Response:
    return http.get(f"{api.http}/admin/api/me", headers={"Cookie": f"ekiden_session={token}"})


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMIN])
def test_a_key_becomes_a_cookie(api: Api, store: BlockingStore, role: Role) -> None:
    key = kept_key(store, "alice", role)
    response = login(api, key)
    assert response.json() == {"user": "alice", "role": role.value}
    given = response.headers["set-cookie"]
    token = token_of(response)
    assert len(token) == 43
    assert given.split("; ")[1:] == ["HttpOnly", "Max-Age=43200", "Path=/", "SameSite=strict"]
    told = me(api, token).json()
    assert (told["user"], told["role"], told["key"]) == ("alice", role.value, key.id)
    # The store keeps a digest, and not for longer than the cookie.
    names = store.redis.keys(store.keys.browser_session("*"))
    assert names
    assert not [name for name in names if token.encode() in name]
    assert all(0 < store.redis.ttl(name) <= 43200 for name in names)


def test_behind_tls_the_cookie_is_secure(api: Api) -> None:
    headers = page(api, **{"X-Forwarded-Proto": "https", "Origin": api.http.replace("http:", "https:")})
    assert "Secure" in login(api, ENV_KEY, headers).headers["set-cookie"].split("; ")


def test_who_may_not_see_the_dashboard_gets_no_cookie(api: Api, store: BlockingStore) -> None:
    for key in (kept_key(store, "uma", Role.USER), "key-of-ulf"):
        refused = login(api, key)
        assert code(refused) == (403, "forbidden")
        assert "set-cookie" not in refused.headers
    for wrong in ("", "nonsense", f"ek_00000000_{'a' * 43}"):
        assert code(login(api, wrong)) == (401, "unauthorized")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"key": 1}', b'{"key": "a", "b": 1}', b'{"key": "\\ud800"}', b"\xff"]
)
def test_a_login_without_a_key_is_refused(api: Api, body: bytes) -> None:
    refused = http.request("POST", f"{api.http}/admin/api/login", content=body, headers=page(api))
    assert code(refused) == (400, "invalid_request")
    big = http.request("POST", f"{api.http}/admin/api/login", content=b" " * 20_000, headers=page(api))
    assert code(big) == (413, "frame_too_large")


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": None},
        {"Origin": "http://localhost:3000"},
        {"Origin": "null"},
        {"Content-Type": None},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
def test_another_page_neither_logs_in_nor_acts(api: Api, changed: dict[str, str | None]) -> None:
    headers = page(api, **changed)
    assert code(login(api, ENV_KEY, headers)) == (403, "forbidden")
    token = token_of(login(api, ENV_KEY))
    url = f"{api.http}/admin/api/logout"
    refused = http.request("POST", url, headers=headers | {"Cookie": f"ekiden_session={token}"}, content=b"{}")
    assert code(refused) == (403, "forbidden")
    assert me(api, token).status_code == 200


def test_a_cookie_counts_for_operators_paths_alone(api: Api) -> None:
    cookie = {"Cookie": f"ekiden_session={token_of(login(api, ENV_KEY))}"}
    assert http.get(f"{api.http}/admin/api/workers", headers=cookie).status_code == 200
    for path in ("/v1/models", "/v1/jobs/x", "/v1/conversations"):
        assert code(http.get(f"{api.http}{path}", headers=cookie)) == (401, "unauthorized")


def test_logout_ends_the_session_on_every_process(api: Api, fleet: Processes) -> None:
    other = fleet.api(EKIDEN_API_KEYS=f"vera:{ENV_KEY}:viewer")
    token, second = token_of(login(api, ENV_KEY)), token_of(login(api, ENV_KEY))
    assert me(other, token).json()["user"] == "vera"
    headers = page(api) | {"Cookie": f"ekiden_session={token}"}
    gone = http.request("POST", f"{api.http}/admin/api/logout", headers=headers)
    assert gone.status_code == 204
    assert "Max-Age=0" in gone.headers["set-cookie"]
    for process in (api, other):
        assert code(me(process, token)) == (401, "unauthorized")
        assert me(process, second).status_code == 200


def test_a_session_ends_with_its_key(api: Api, store: BlockingStore, fleet: Processes) -> None:
    key = kept_key(store, "alice", Role.ADMIN)
    token = token_of(login(api, key))
    store.run(revoke_key(key.id))
    until(lambda: me(api, token).status_code == 401, timeout_s=5, what="the end of the session")
    # A key of the environment has a place and not an id: another key in it is another key.
    before = token_of(login(api, ENV_KEY))
    changed = fleet.api(EKIDEN_API_KEYS="vera:another-key:viewer")
    assert code(me(changed, before)) == (401, "unauthorized")


def test_no_secret_is_logged(api: Api, store: BlockingStore) -> None:
    key = kept_key(store, "alice", Role.ADMIN)
    token = token_of(login(api, key))
    assert me(api, token).status_code == 200
    wrong = f"ek_{key.id}_{'w' * 43}"
    login(api, wrong)
    http.get(f"{api.http}/v1/models", headers={"Authorization": f"Bearer {wrong}"})
    http.request("POST", f"{api.http}/admin/api/login", content=f'{{"key": "{key.text}', headers=page(api))
    logged = api.text()
    assert "logged_in" in logged
    secrets = (key.text, key.text[12:], key.digest, token, wrong, ENV_KEY, "key-of-ulf")
    assert not [secret for secret in secrets if secret in logged]
