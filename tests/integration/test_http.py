"""The HTTP API of a real process: health, models, jobs, operators' pages; keys, Host and Origin; error bodies."""

import asyncio
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from ekiden.settings import Settings, load_settings
from ekiden.store import BlockingStore
from tests.support import http
from tests.support.fake_engine import CONTEXT
from tests.support.processes import Api, Process, Processes, processes
from tests.support.socket import connected
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

ADA = {"Authorization": "Bearer key-of-ada"}
BOB = {"Authorization": "Bearer key-of-bob"}
VERA = {"Authorization": "Bearer key-of-vera"}
ACCESS = {
    "EKIDEN_API_KEYS": "ada:key-of-ada,bob:key-of-bob,vera:key-of-vera:viewer",
    "EKIDEN_ALLOWED_HOSTS": "chat.example.com",
    "EKIDEN_ALLOWED_ORIGINS": "https://app.example.com",
    "EKIDEN_LOG_LEVEL": "debug",
}


@pytest.fixture(scope="module")
def settings(valkey: ValkeyServer) -> Settings:
    return load_settings(redis_url=valkey.url, key_prefix=f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def fleet(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes(settings, tmp_path_factory.mktemp("http")) as group:
        yield group


@pytest.fixture(scope="module")
def worker(fleet: Processes) -> Process:
    return fleet.worker(EKIDEN_TEST_STEP_S="0.01", EKIDEN_LOG_LEVEL="debug")


@pytest.fixture(scope="module")
def api(fleet: Processes, worker: Process) -> Api:
    return fleet.api(**ACCESS)


def error_of(response: httpx.Response) -> dict[str, Any]:
    """The error in a body, which holds nothing else."""
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"code", "message", "retryable"}
    assert body["error"]["message"].endswith((".", "?"))
    error: dict[str, Any] = body["error"]
    return error


def started_job(api: Api, text: str = "Hello", max_tokens: int = 5, headers: dict[str, str] = ADA) -> str:
    """Ask for an answer; returns when its first text came. The connection is gone then, the job goes on."""

    async def ask() -> str:
        async with connected(api.socket, additional_headers=headers) as client:
            job = await client.chat(text, params={"max_tokens": max_tokens, "seed": 1})
            await client.until("delta", job)
            return job

    return asyncio.run(ask())


def in_state(api: Api, job: str, state: str) -> dict[str, Any]:
    """The job, once it is in that state."""

    def read() -> dict[str, Any] | None:
        body: dict[str, Any] = http.get(f"{api.http}/v1/jobs/{job}", headers=ADA).json()
        return body if body["state"] == state else None

    found = until(read, what=f"the state {state}")
    assert found
    return found


def test_health_needs_no_key(api: Api) -> None:
    assert http.get(f"{api.http}/healthz").json() == {"status": "ok"}
    ready = http.get(f"{api.http}/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "missing": [], "workers": 1})


def test_models_are_listed_with_the_default_one_first(api: Api, settings: Settings) -> None:
    body = http.get(f"{api.http}/v1/models", headers=ADA).json()
    assert body["object"] == "list"
    first = {
        "id": settings.model_name,
        "object": "model",
        "owned_by": "ekiden",
        "context_tokens": CONTEXT,
        "default": True,
    }
    assert body["data"] == [first]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic key-of-ada"}])
def test_without_a_known_key_nothing_is_told(api: Api, headers: dict[str, str]) -> None:
    for method, path in [("GET", "/v1/models"), ("GET", "/v1/jobs/x"), ("DELETE", "/v1/jobs/x")]:
        response = http.request(method, f"{api.http}{path}", headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert error_of(response)["code"] == "unauthorized"


def test_a_job_is_shown_to_its_user_while_it_runs_and_after_its_end(api: Api) -> None:
    job = started_job(api, max_tokens=3000)
    running = in_state(api, job, "running")
    assert (running["id"], running["object"], running["attempt"]) == (job, "job", 1)
    assert running["finish_reason"] is running["error"] is running["ended_ms"] is None
    assert 0 < running["cursor"] < 3000

    response = http.delete(f"{api.http}/v1/jobs/{job}", headers=ADA)
    assert (response.status_code, response.json()) == (200, {"id": job, "object": "job", "state": "running"})
    ended = in_state(api, job, "cancelled")
    assert ended["finish_reason"] == "cancelled"
    assert ended["usage"]["completion_tokens"] == ended["cursor"] == len(ended["text"].split())
    assert ended["ended_ms"] >= ended["created_ms"]
    assert http.delete(f"{api.http}/v1/jobs/{job}", headers=ADA).json()["state"] == "cancelled"


def test_a_finished_job_has_its_text_and_usage(api: Api) -> None:
    ended = in_state(api, started_job(api), "done")
    assert (ended["finish_reason"], ended["cursor"], ended["error"]) == ("length", 5, None)
    assert len(ended["text"].split()) == 5
    assert ended["usage"] == {"prompt_tokens": 11, "completion_tokens": 5, "cached_tokens": 0, "retokenized_tokens": 0}


def test_a_failed_job_has_its_error(api: Api) -> None:
    async def ask() -> str:
        async with connected(api.socket, additional_headers=ADA) as client:
            job = await client.chat("[FORGED]")
            await client.answer(job)
            return job

    failed = in_state(api, asyncio.run(ask()), "error")
    assert failed["error"]["code"] == "special_tags"
    assert failed["text"] == ""


def test_another_users_job_is_as_one_that_is_not_there(api: Api) -> None:
    job = started_job(api)
    for method in ("GET", "DELETE"):
        answers = [http.request(method, f"{api.http}/v1/jobs/{name}", headers=BOB) for name in (job, "no-such-job")]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert error_of(answers[0]) == error_of(answers[1])
        assert error_of(answers[0])["code"] == "job_not_found"
    assert in_state(api, job, "done")


def test_operators_see_workers_and_jobs_without_text(api: Api, worker: Process, settings: Settings) -> None:
    job = started_job(api, text="a private question", max_tokens=1000)

    def busy() -> dict[str, Any] | None:
        (shown,) = http.get(f"{api.http}/admin/api/workers", headers=VERA).json()["workers"]
        return shown if shown["running"] == 1 else None

    shown = until(busy, what="a beat that tells of the job")
    assert shown
    assert (shown["pid"], shown["host"], shown["model"]) == (worker.pid, socket.gethostname(), settings.model_name)
    assert (shown["state"], len(shown["incarnation"])) == ("ready", 32)

    page = http.get(f"{api.http}/admin/api/jobs", headers=VERA)
    (row,) = [row for row in page.json()["jobs"] if row["id"] == job]
    assert (row["state"], row["user"], row["worker"]) == ("running", "ada", shown["incarnation"])
    assert "private" not in page.text
    http.delete(f"{api.http}/v1/jobs/{job}", headers=ADA)


def test_jobs_are_listed_page_by_page_newest_first(api: Api) -> None:
    made = [started_job(api) for _ in range(3)]
    url = f"{api.http}/admin/api/jobs"
    first = http.get(url, params={"limit": 2}, headers=VERA).json()
    second = http.get(url, params={"limit": 2, "cursor": first["next"]}, headers=VERA).json()
    assert [row["id"] for row in [*first["jobs"], *second["jobs"]]][:3] == made[::-1]
    in_state(api, made[-1], "done")
    done = http.get(url, params={"state": "done"}, headers=VERA).json()
    assert {row["state"] for row in done["jobs"]} == {"done"}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("PUT", "/v1/jobs/x", 405, "method_not_allowed"),
        ("GET", "/admin/api/jobs?limit=0", 400, "out_of_range"),
        ("GET", "/admin/api/jobs?limit=many", 400, "invalid_request"),
        ("GET", "/admin/api/jobs?cursor=-1", 400, "out_of_range"),
    ],
)
def test_every_refusal_has_a_code(api: Api, method: str, path: str, status: int, code: str) -> None:
    response = http.request(method, f"{api.http}{path}", headers=VERA)
    assert (response.status_code, error_of(response)["code"]) == (status, code)


def test_a_fault_of_ours_is_an_error_with_a_code_too(api: Api, store: BlockingStore) -> None:
    store.redis.zadd(store.keys.workers, {"broken": 1 << 50})
    store.redis.hset(store.keys.worker("broken"), "pid", "no number")
    try:
        response = http.get(f"{api.http}/admin/api/workers", headers=VERA)
    finally:
        store.redis.zrem(store.keys.workers, "broken")
    assert (response.status_code, error_of(response)["code"]) == (500, "internal")
    assert "number" not in response.text


def raw(api: Api, *lines: str) -> str:
    """The status line that answers these request lines."""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        return connection.makefile().readline()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("[::1]:{port}", 200),
        ("chat.example.com", 200),
        ("Chat.Example.com.:443", 200),
        ("evil.com:{port}", 403),
        ("localhost.evil.com", 403),
        ("evil.com@localhost", 403),
        ("", 403),
    ],
)
def test_only_hosts_on_the_list_are_answered(api: Api, host: str, status: int) -> None:
    assert f" {status} " in raw(api, "GET /healthz HTTP/1.1", f"Host: {host.format(port=api.port)}")


def test_a_request_without_a_host_is_refused(api: Api) -> None:
    assert " 403 " in raw(api, "GET /healthz HTTP/1.0")


def handshake(api: Api, **options: Any) -> tuple[int, str | None]:
    """What answers a WebSocket handshake: the status, and the chosen subprotocol or the error's code."""

    async def shake() -> tuple[int, str | None]:
        try:
            async with connected(api.socket, **options) as client:
                await client.send(type="ping")
                assert (await client.receive())["type"] == "pong"
                return 101, client.connection.subprotocol
        except InvalidStatus as refusal:
            body = httpx.Response(refusal.response.status_code, content=bytes(refusal.response.body))
            return body.status_code, str(error_of(body)["code"])

    return asyncio.run(shake())


def test_a_socket_needs_a_key_in_the_header_or_as_a_subprotocol(api: Api) -> None:
    assert handshake(api, additional_headers=ADA) == (101, None)
    assert handshake(api, subprotocols=["ekiden.v1", "ekiden.bearer.key-of-ada"]) == (101, "ekiden.v1")
    assert handshake(api) == (401, "unauthorized")
    assert handshake(api, additional_headers={"Authorization": "Bearer wrong"}) == (401, "unauthorized")
    assert handshake(api, subprotocols=["ekiden.v1", "ekiden.bearer.wrong"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:1234", 101),
        ("HTTPS://App.Example.com", 101),
        ("https://app.example.com:444", 403),
        ("https://evil.com", 403),
        ("null", 403),
    ],
)
def test_a_socket_is_refused_to_pages_of_other_sites(api: Api, origin: str, status: int) -> None:
    assert handshake(api, additional_headers=ADA, origin=origin)[0] == status


def test_a_socket_is_refused_to_a_foreign_host(api: Api) -> None:
    # websockets writes its own Host header, so this one connects to the address under another name.
    foreign = api.socket.replace("127.0.0.1", "evil.com")

    async def shake() -> None:
        async with connected(foreign, host="127.0.0.1", port=api.port, additional_headers=ADA):
            pass

    with pytest.raises(InvalidStatus) as caught:
        asyncio.run(shake())
    assert caught.value.response.status_code == 403


def test_neither_keys_nor_messages_are_logged(api: Api, worker: Process) -> None:
    async def talk() -> None:
        options = {"subprotocols": ["ekiden.v1", "ekiden.bearer.key-of-ada"]}
        async with connected(api.socket, **options) as client:
            await client.answer(await client.chat("my private question", params={"max_tokens": 5}))
            await client.answer(await client.chat("my private question [FORGED]"))
            await client.connection.send('{"type":"chat","my private question')
            await client.until("error")

    asyncio.run(talk())
    handshake(api, additional_headers={"Authorization": "Bearer a-wrong-key"})
    logged = api.text() + worker.text()
    assert "registered" in logged
    for secret in ("key-of-ada", "key-of-bob", "a-wrong-key", "private question", "w1 "):
        assert secret not in logged
