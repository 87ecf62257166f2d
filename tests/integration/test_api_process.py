"""The life of an API process: refusing to start, waiting for the store, stopping."""

import asyncio
import re
import signal
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from ekiden.settings import Settings
from ekiden.store import BlockingStore
from tests.support import http
from tests.support.fake_engine import expected
from tests.support.keys import kept_key
from tests.support.processes import Api, Process, Processes
from tests.support.socket import connected
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

StartFleet = Callable[[Settings], Processes]


def started(fleet: Processes, **extra: str) -> Api:
    """An API process that may not become ready."""
    api = Api(fleet.settings, fleet.folder / f"api-{len(fleet.children)}.log", extra)
    fleet.children.append(api)

    def listening() -> bool:
        api.check()
        return "api_listening" in api.text()

    until(listening, timeout_s=60, what="a listening API")
    return api


def readiness(api: Api) -> tuple[int, list[str]] | None:
    """Status and what is missing; None while nothing answers."""
    api.check()
    try:
        response = http.get(f"{api.http}/readyz", timeout=20)
    except httpx.TransportError:
        return None
    return response.status_code, response.json()["missing"]


def test_a_process_that_must_not_start_says_why_in_one_sentence(settings: Settings, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases: list[tuple[dict[str, str], str]] = [
            ({"EKIDEN_HOST": "0.0.0.0"}, "EKIDEN_HOST=0.0.0.0 is not loopback: others could connect without a key."),
            ({"EKIDEN_HOST": "::"}, "EKIDEN_HOST=:: is not loopback: others could connect without a key."),
            ({"EKIDEN_HOST": socket.gethostname()}, "Make one with `ekiden keys create --user NAME --role admin`"),
            (
                {"EKIDEN_HOST": "no-such-host.invalid", "EKIDEN_API_KEYS": "ada:k"},
                "Cannot listen on no-such-host.invalid",
            ),
            ({"EKIDEN_PORT": port}, f"Cannot listen on 127.0.0.1:{port}: Address already in use."),
            ({"EKIDEN_PROT": "1"}, "EKIDEN_PROT is not a setting of Ekiden; did you mean EKIDEN_PORT?"),
            ({"EKIDEN_API_KEYS": "hush"}, "EKIDEN_API_KEYS: must be user:key or user:key:role"),
        ]
        children = [
            Process("ekiden_api", settings, tmp_path / f"{number}.log", extra)
            for number, (extra, _) in enumerate(cases)
        ]
        statuses = [child.child.wait(100) for child in children]
    for child, status, (extra, words) in zip(children, statuses, cases, strict=True):
        lines = child.text().splitlines()
        assert (status, len(lines)) == (3, 1), (extra, lines)
        assert words in lines[0]
        assert "hush" not in lines[0]


def test_port_0_takes_a_free_port_and_loopback_may_be_ipv6(settings: Settings, fleet_of: StartFleet) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    api = started(fleet_of(settings), EKIDEN_PORT="0", EKIDEN_HOST="::1")
    port = re.search(r"port=(\d+)", re.sub(r"\x1b\[\d+m", "", api.text()))
    assert port is not None
    until(lambda: http.get(f"http://[::1]:{port.group(1)}/healthz").is_success)


def test_the_store_may_come_later_and_go_for_a_while(
    own_valkey: ValkeyServer, make_settings: Callable[..., Settings], fleet_of: StartFleet
) -> None:
    own_valkey.stop()
    api = started(fleet_of(make_settings(redis_url=own_valkey.url)))
    until(lambda: readiness(api) == (503, ["store"]), what="an API that misses the store")
    assert http.get(f"{api.http}/healthz").is_success
    for path in ("/v1/models", "/v1/jobs/x", "/admin/api/workers"):
        response = http.get(f"{api.http}{path}", timeout=20)
        error = response.json()["error"]
        assert (response.status_code, error["code"], error["retryable"]) == (503, "store_unavailable", True)

    own_valkey.start()
    until(lambda: readiness(api) == (200, []), what="a ready API")
    own_valkey.stop()
    until(lambda: readiness(api) == (503, ["store"]), what="an API that misses the store")
    own_valkey.start()
    until(lambda: readiness(api) == (200, []), what="a ready API")


def test_off_loopback_a_process_waits_for_the_store_that_may_have_keys(
    own_valkey: ValkeyServer, make_settings: Callable[..., Settings], fleet_of: StartFleet
) -> None:
    settings = make_settings(redis_url=own_valkey.url)
    with closing(BlockingStore(settings)) as store:
        kept_key(store)
    own_valkey.stop()
    fleet = fleet_of(settings)
    api = Api(settings, fleet.folder / "waiting.log", {"EKIDEN_HOST": "0.0.0.0"})
    fleet.children.append(api)
    until(lambda: "waiting_for_the_store" in api.text(), what="a process that waits")
    api.check()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", api.port))
    own_valkey.start()
    until(lambda: readiness(api) == (200, []), what="a ready API")
    assert http.get(f"{api.http}/v1/models").status_code == 401


def test_ready_may_mean_that_a_worker_is_there(settings: Settings, fleet_of: StartFleet) -> None:
    fleet = fleet_of(settings)
    api = started(fleet, EKIDEN_READY_NEEDS_WORKER="true")
    until(lambda: readiness(api) == (503, ["worker"]), what="an API that misses a worker")
    worker = fleet.worker()
    assert readiness(api) == (200, [])
    worker.end()
    assert readiness(api) == (503, ["worker"])


def test_sigterm_closes_sockets_so_that_clients_go_on_elsewhere(settings: Settings, fleet_of: StartFleet) -> None:
    fleet = fleet_of(settings)
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    first, second = fleet.api(), fleet.api()

    async def run() -> None:
        async with connected(first.socket) as one, connected(first.socket) as idle:
            job = await one.chat(params={"max_tokens": 300, "seed": 1})
            await one.until("delta", job)
            first.send(signal.SIGTERM)
            for client in (one, idle):
                with pytest.raises(ConnectionClosed) as closed:
                    while True:
                        await client.receive()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code in (1001, 1012)
            seen, cursor = one.text(job), max(frame.get("cursor", 0) for frame in one.of(job))
        async with connected(second.socket) as two:
            await two.send(type="attach", job=job, cursor=cursor)
            assert seen + await two.answer(job) == expected(300)

    asyncio.run(run())
    assert first.end() in (0, -signal.SIGTERM)
    assert "Traceback" not in first.text()
