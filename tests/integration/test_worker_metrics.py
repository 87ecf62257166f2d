"""/metrics of real workers: what they tell Prometheus, and whom they tell it."""

import asyncio
import re
from collections.abc import Callable

import pytest

from ekiden.exit_codes import CONFIG
from ekiden.roles import Role
from ekiden.settings import Settings
from ekiden.store import BlockingStore
from tests.support import http
from tests.support.keys import bearer, kept_key
from tests.support.metrics import Metrics, scrape
from tests.support.processes import FAKE_ENGINE, Process, Processes
from tests.support.socket import connected
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

EVERYWHERE = {"EKIDEN_METRICS_PORT": "0", "EKIDEN_METRICS_HOST": "0.0.0.0"}


def url_of(worker: Process) -> str:
    """Where it serves its metrics, as its log says; by its loopback address."""
    found = re.search(r"metrics_served\s.*port=(\d+)", worker.text())
    assert found, worker.text()
    return f"http://127.0.0.1:{found[1]}"


def test_what_a_worker_does(fleet: Processes, settings: Settings) -> None:
    worker = fleet.worker(EKIDEN_TEST_STEP_S="0.02", EKIDEN_METRICS_PORT="0", EKIDEN_MAX_RUNNING="4")
    api, url = fleet.api(), url_of(worker)
    before = scrape(url)
    idle = {name: before(f"ekiden_{name}") for name in ("slots", "requests_running", "generated_tokens_total")}
    assert idle == {"slots": 4, "requests_running": 0, "generated_tokens_total": 0}
    during: list[Metrics] = []

    async def ask() -> None:
        async with connected(api.socket) as client:
            jobs = [await client.chat("Hello", params={"max_tokens": 50}) for _ in range(2)]
            for job in jobs:
                await client.until("delta", job)
            during.append(await asyncio.to_thread(scrape, url))
            for job in jobs:
                await client.answer(job)

    asyncio.run(ask())
    busy, after = during[0], scrape(url)
    assert busy("ekiden_requests_running") == 2
    assert busy("ekiden_kv_cache_usage_ratio") == 0.5  # the fake engine holds one of its blocks for each request
    assert busy("ekiden_batch_size") > 0
    assert after("ekiden_generated_tokens_total") == 100
    assert after("ekiden_inter_token_latency_seconds_count") == 98
    assert after("ekiden_inter_token_latency_seconds_bucket", le="+Inf") == 98
    mean_s = after("ekiden_inter_token_latency_seconds_sum") / 98
    assert 0.019 < mean_s < 1  # a step takes 20 ms, or longer on a busy machine
    assert 49 <= after("ekiden_engine_step_seconds_count") <= 98
    assert after("ekiden_append_seconds_count") >= 2
    assert after("ekiden_prefill_tokens_total", source="computed") > 2 * len("Hello")
    assert after("ekiden_prefix_cache_hit_ratio") == 0
    # The client may hear of the end before the worker's next look at what is left to write.
    rest = ("ekiden_requests_running", "ekiden_unwritten_tokens")
    until(lambda: [scrape(url)(name) for name in rest] == [0, 0], what="a worker that is done")
    assert after("ekiden_worker_info", model=settings.model_name, device="cpu", version="0.1.0") == 1
    assert after("process_resident_memory_bytes") > 0


def test_operators_are_told_the_port(fleet: Processes) -> None:
    worker = fleet.worker(EKIDEN_METRICS_PORT="0")
    silent = fleet.worker()
    assert "metrics_served" not in silent.text()
    shown = http.get(f"{fleet.api().http}/admin/api/workers").json()["workers"]
    ports = {row["pid"]: row["metrics_port"] for row in shown}
    assert ports == {worker.pid: int(url_of(worker).rpartition(":")[2]), silent.pid: None}


def test_a_port_that_is_taken_is_told_before_a_model_is_loaded(fleet: Processes) -> None:
    taken = fleet.worker(EKIDEN_METRICS_PORT="0")
    extra = FAKE_ENGINE | {"EKIDEN_METRICS_PORT": url_of(taken).rpartition(":")[2]}
    refused = Process("ekiden_worker", fleet.settings, fleet.folder / "refused.log", extra)
    fleet.children.append(refused)
    assert refused.child.wait(60) == CONFIG
    assert refused.text().startswith("Cannot listen on 127.0.0.1:")
    assert "loading_model" not in refused.text()


def test_on_loopback_no_key_is_needed_but_a_name_of_this_machine(fleet: Processes, store: BlockingStore) -> None:
    kept_key(store, "owner", Role.ADMIN)
    url = url_of(fleet.worker(EKIDEN_METRICS_PORT="0"))
    assert scrape(url)("ekiden_slots") > 0
    foreign = http.get(f"{url}/metrics", headers={"Host": "evil.example.com"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "forbidden")
    other = http.get(f"{url}/other")
    assert (other.status_code, other.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(("role", "status"), [(None, 401), (Role.USER, 403), (Role.VIEWER, 200), (Role.ADMIN, 200)])
def test_on_other_addresses_it_takes_a_viewer(
    fleet: Processes, store: BlockingStore, role: Role | None, status: int
) -> None:
    url = url_of(fleet.worker(**EVERYWHERE))
    headers = bearer(kept_key(store, role=role)) if role else {}
    answer = http.get(f"{url}/metrics", headers=headers)
    assert answer.status_code == status
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)


def test_keys_of_the_environment_count_and_wrong_ones_do_not(fleet: Processes) -> None:
    url = url_of(fleet.worker(**EVERYWHERE, EKIDEN_API_KEYS="ada:key-of-ada,eve:key-of-eve:viewer"))
    found = {key: http.get(f"{url}/metrics", headers=bearer(key)).status_code for key in ("key-of-ada", "key-of-eve")}
    assert found == {"key-of-ada": 403, "key-of-eve": 200}
    assert http.get(f"{url}/metrics", headers=bearer("ek_01234567_" + "x" * 43)).status_code == 401


def test_while_the_store_is_away_only_keys_of_the_environment_open(
    make_settings: Callable[..., Settings], fleet_of: Callable[[Settings], Processes], own_valkey: ValkeyServer
) -> None:
    fleet = fleet_of(make_settings(redis_url=own_valkey.url))
    url = url_of(fleet.worker(**EVERYWHERE, EKIDEN_API_KEYS="eve:key-of-eve:viewer"))
    own_valkey.stop()
    stored = http.get(f"{url}/metrics", headers=bearer("ek_01234567_" + "x" * 43))
    assert (stored.status_code, stored.json()["error"]["code"]) == (503, "store_unavailable")
    assert http.get(f"{url}/metrics", headers=bearer("key-of-eve")).status_code == 200
    own_valkey.start()


def test_a_worker_that_is_fenced_counts_what_it_lost(fleet: Processes, store: BlockingStore) -> None:
    worker, api = fleet.worker(EKIDEN_METRICS_PORT="0"), fleet.api()
    url = url_of(worker)

    async def ask() -> None:
        async with connected(api.socket) as client:
            job = await client.chat("Hello", params={"max_tokens": 300})
            await client.until("delta", job)
            await asyncio.to_thread(store.redis.hincrby, store.keys.job(job), "fence", 1)
            await asyncio.to_thread(until, lambda: scrape(url)("ekiden_fenced_jobs_total") == 1, what="the fenced job")

    asyncio.run(ask())
