"""/metrics of real processes: what an API process and a worker tell Prometheus, and whom they tell it."""

import asyncio
import signal
from collections.abc import Callable

import pytest

from ekiden.roles import Role
from ekiden.settings import Settings
from ekiden.store import BlockingStore
from tests.support import http
from tests.support.keys import bearer, kept_key
from tests.support.metrics import scrape
from tests.support.processes import Api, Processes
from tests.support.socket import connected
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until


def asked(api: Api, *texts: str, tokens: int = 5) -> None:
    """Ask for an answer to each text on one connection, and wait for all."""

    async def ask() -> None:
        async with connected(api.socket) as client:
            jobs = [await client.chat(text, params={"max_tokens": tokens}) for text in texts]
            for job in jobs:
                await client.answer(job)

    asyncio.run(ask())


def test_times_of_the_jobs_that_a_process_accepted(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.005")
    one, other = fleet.api(), fleet.api()
    asked(one, "first", "second")
    found = scrape(one.http)
    for name in ("ekiden_time_to_first_token_seconds", "ekiden_queue_time_seconds"):
        assert found(f"{name}_count") == found(f"{name}_bucket", le="+Inf") == 2
        assert scrape(other.http)(f"{name}_count") == 0
    first_token_s = found("ekiden_time_to_first_token_seconds_sum")
    assert 0 <= found("ekiden_queue_time_seconds_sum") <= first_token_s


def test_an_answer_that_is_watched_again_is_not_timed_again(api: Api) -> None:
    async def ask() -> None:
        async with connected(api.socket) as client:
            job = await client.chat("Hello", params={"max_tokens": 5})
            await client.answer(job)
            await client.send(type="attach", job=job, cursor=0)
            await client.until("done", job)

    asyncio.run(ask())
    assert scrape(api.http)("ekiden_time_to_first_token_seconds_count") == 1


def test_what_a_process_sends_and_refuses(api: Api) -> None:
    async def ask() -> None:
        async with connected(api.socket) as client:
            job = await client.chat("Hello", params={"max_tokens": 3000})
            await client.until("delta", job)
            during = await asyncio.to_thread(scrape, api.http)
            assert (during("ekiden_connections"), during("ekiden_watched_jobs")) == (1, 1)
            await client.send(type="cancel", job=job)
            await client.until("done", job)
            await client.connection.send("no frame")
            await client.until("error")

    asyncio.run(ask())
    found = scrape(api.http)
    assert found("ekiden_frames_refused_total", code="invalid_frame") == 1
    deltas, frames = found("ekiden_deltas_sent_total"), found("ekiden_frames_sent_total")
    assert 1 <= deltas <= frames - 4  # accepted, started, done and error
    until(lambda: scrape(api.http)("ekiden_connections") == 0, what="the end of the connection")
    assert found("process_resident_memory_bytes") > 0


def test_the_fleets_figures_are_the_same_on_every_process(fleet: Processes, settings: Settings) -> None:
    one, other = fleet.api(), fleet.api()
    model = settings.model_name

    async def ask() -> None:
        async with connected(one.socket) as client:
            waiting = await client.chat("Hello", params={"max_tokens": 5})
            assert (await asyncio.to_thread(scrape, other.http))("ekiden_requests_waiting", model=model) == 1
            fleet.worker(EKIDEN_TEST_STEP_S="0.005")
            await client.answer(waiting)
            await client.answer(await client.chat("[FORGED]"))
            cancelled = await client.chat("Hello", params={"max_tokens": 3000})
            await client.until("delta", cancelled)
            await client.send(type="cancel", job=cancelled)
            await client.until("done", cancelled)

    asyncio.run(ask())
    found = scrape(one.http)
    again = scrape(other.http)
    for name in ("requests_waiting", "jobs_total", "jobs_moved_total", "tokens_total"):
        family = found.families[f"ekiden_{name.removesuffix('_total')}"]
        assert family.samples == again.families[family.name].samples
        assert "take max()" in family.documentation
    assert found("ekiden_requests_waiting", model=model) == 0
    ends = {end: found("ekiden_jobs_total", finish_reason=end) for end in ("stop", "length", "cancelled", "error")}
    assert ends == {"stop": 0, "length": 1, "cancelled": 1, "error": 1}
    assert found("ekiden_tokens_total", kind="prompt") >= 2 * len("Hello")
    assert found("ekiden_tokens_total", kind="completion") > 5
    assert found("ekiden_tokens_total", kind="cached") == 0


def test_a_move_is_counted(fleet: Processes) -> None:
    first, api = fleet.worker(), fleet.api()

    async def ask() -> None:
        async with connected(api.socket) as client:
            job = await client.chat("Hello", params={"max_tokens": 200})
            await client.until("delta", job)
            await asyncio.to_thread(fleet.worker)
            first.send(signal.SIGKILL)
            await client.answer(job)

    asyncio.run(ask())
    assert scrape(api.http)("ekiden_jobs_moved_total") == 1


def test_without_the_store_a_process_tells_what_it_knows(
    make_settings: Callable[..., Settings], fleet_of: Callable[[Settings], Processes], own_valkey: ValkeyServer
) -> None:
    api = fleet_of(make_settings(redis_url=own_valkey.url)).api()
    assert scrape(api.http)("ekiden_store_up") == 1
    own_valkey.stop()
    found = scrape(api.http)
    assert (found("ekiden_store_up"), found("ekiden_connections")) == (0, 0)
    assert "ekiden_jobs_total" not in found.names
    own_valkey.start()
    until(lambda: scrape(api.http)("ekiden_store_up") == 1, what="the store's figures")


def test_openmetrics_is_spoken_to_who_asks_for_it(api: Api) -> None:
    response = http.get(f"{api.http}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert response.text.endswith("# EOF\n")


@pytest.mark.parametrize(("role", "status"), [(None, 401), (Role.USER, 403), (Role.VIEWER, 200), (Role.ADMIN, 200)])
def test_off_loopback_it_takes_a_viewer(fleet: Processes, store: BlockingStore, role: Role | None, status: int) -> None:
    kept_key(store, "owner", Role.ADMIN)
    headers = bearer(kept_key(store, role=role)) if role else {}
    api = fleet.api(EKIDEN_ALLOWED_HOSTS="metrics.example.com")
    foreign = {**headers, "Host": "metrics.example.com"}
    assert http.get(f"{api.http}/metrics", headers=foreign).status_code == status
    assert http.get(f"{api.http}/metrics").status_code == 200
