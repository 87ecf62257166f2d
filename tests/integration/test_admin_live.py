"""`/admin/live` and the drill: what dashboards are pushed, and a worker that is killed before their eyes."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from ekiden.settings import Settings, load_settings
from tests.support.operators import KEYS, Desk, headers, submit
from tests.support.processes import Api, Process, Processes, processes
from tests.support.socket import Socket, connected
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

DRILL = {"EKIDEN_TEST_STEP_S": "0.01", "EKIDEN_CHAOS_DRILLS": "true"}


@pytest.fixture(scope="module")
def settings(valkey: ValkeyServer) -> Settings:
    return load_settings(redis_url=valkey.url, key_prefix=f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="module")
def fleet(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes(settings, tmp_path_factory.mktemp("live")) as group:
        yield group


@pytest.fixture(scope="module")
def worker(fleet: Processes) -> Process:
    return fleet.worker(**DRILL)


@pytest.fixture(scope="module")
def api(fleet: Processes, worker: Process) -> Api:
    return fleet.api(**KEYS)


@asynccontextmanager
async def dashboard(api: Api, user: str = "vera", **watch: Any) -> AsyncIterator[Socket]:
    """An open page that shows something."""
    url = f"{api.socket.removesuffix('/v1/chat')}/admin/live"
    async with connected(url, additional_headers=headers(user)) as socket:
        await socket.send(type="watch", **watch)
        yield socket


def test_a_page_is_told_how_everything_stands_and_what_changes(api: Api) -> None:
    async def body() -> None:
        async with dashboard(api, overview=True) as page:
            first = await page.until("overview")
            assert first["data"]["states"]["running"] == 0
            assert set(first["data"]) == set(Desk(api).get("overview"))
            job = (await asyncio.to_thread(submit, api, max_tokens=1000))[0]
            while (await page.until("overview"))["data"]["states"]["running"] == 0:
                pass
            await asyncio.to_thread(Desk(api).post, f"jobs/{job}/cancel")
            while (await page.until("overview"))["data"]["states"]["running"] == 1:
                pass
            assert Desk(api).get("overview")["replicas"][0]["dashboards"] == 1

    asyncio.run(body())


def test_of_the_history_the_last_steps_follow_the_whole(api: Api) -> None:
    async def body() -> None:
        async with dashboard(api, series="15m") as page:
            assert len((await page.until("series"))["data"]["times"]) == 180
            tail = (await page.until("series"))["data"]
            assert len(tail["times"]) == 3
            await page.send(type="watch", series="1h")
            assert len((await page.until("series"))["data"]["times"]) == 360

    asyncio.run(body())


def test_a_page_of_jobs_is_pushed_when_it_changed(api: Api) -> None:
    async def body() -> None:
        user = "bob"
        async with dashboard(api, jobs={"user": user, "limit": 10}) as page:
            assert (await page.until("jobs"))["data"]["jobs"] == []
            [job] = await asyncio.to_thread(submit, api, user=user, max_tokens=1)
            while not (rows := (await page.until("jobs"))["data"]["jobs"]) or rows[0]["state"] != "done":
                pass
            assert [row["id"] for row in rows] == [job]
            await page.send(type="watch", job=job)
            assert (await page.until("job"))["data"]["cursor"] == 1
            with pytest.raises(TimeoutError):  # nothing changes: nothing is said
                await page.receive(2.5)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("watch", "about", "code"),
    [({"job": "nobody"}, "job", "job_not_found"), ({"series": "1y"}, "watch", "invalid_frame")],
)
def test_what_cannot_be_shown_is_said(api: Api, watch: dict[str, Any], about: str, code: str) -> None:
    async def body() -> None:
        async with dashboard(api, **watch) as page:
            frame = await page.until("error")
            assert (frame["about"], frame["code"]) == (about, code)
            await page.send(type="watch", drills=True)
            assert (await page.until("drills"))["data"]

    asyncio.run(body())


@pytest.mark.parametrize("frame", ["", "{", "[]", '{"type":"chat"}', '{"type":"watch","jobs":{"colour":1}}', b"\xff"])
def test_a_frame_that_is_not_understood_leaves_the_page_open(api: Api, frame: str | bytes) -> None:
    async def body() -> None:
        async with dashboard(api) as page:
            await page.connection.send(frame)
            assert (await page.until("error"))["code"] == "invalid_frame"
            await page.connection.send(json.dumps({"type": "watch", "overview": True}))
            assert await page.until("overview")

    asyncio.run(body())


def test_a_page_without_the_role_is_refused(api: Api) -> None:
    async def body() -> None:
        with pytest.raises(InvalidStatus) as refusal:
            async with dashboard(api, "ada"):
                pass
        assert refusal.value.response.status_code == 403

    asyncio.run(body())


def test_a_drill_kills_a_worker_and_keeps_the_score(api: Api, fleet: Processes, worker: Process) -> None:
    desk = Desk(api)
    jobs = submit(api, count=4, max_tokens=400)
    until(lambda: all(desk.job(job)["cursor"] > 3 for job in jobs), what="running jobs")
    [victim] = desk.get("workers")["workers"]
    other = fleet.worker(**DRILL)

    async def body() -> dict[str, Any]:
        async with dashboard(api, drills=True) as page:
            begun = await asyncio.to_thread(desk.post, "drills", worker=victim["incarnation"])
            assert begun["jobs"] == 4
            while True:
                [card] = (await page.until("drills"))["data"]["drills"] or [None]
                if card and card["ended_ms"]:
                    return card

    card = asyncio.run(body())
    assert worker.child.wait(10) == -9
    assert (card["jobs"], card["moved"], card["lost"], card["waiting"]) == (4, 4, 0, 0)
    assert (card["by"], card["name"]) == ("olga", f"{victim['host']}:{worker.pid}")
    assert 0 < card["stall_p50_ms"] <= card["stall_max_ms"] < 20_000
    assert all(row["tokens"] > 3 and row["attempt"] == 2 for row in card["rows"])
    until(lambda: all(desk.in_state(job, "done") for job in jobs), what="whole answers")
    for job in jobs:
        told = desk.job(job)
        assert [
            (a["attempt"], a["name"].endswith(f":{pid}"))
            for a, pid in zip(told["attempts"], (worker.pid, other.pid), strict=True)
        ] == [(1, True), (2, True)]
        assert told["cursor"] == 400


def test_a_worker_that_allows_no_drill_lives_on(api: Api, fleet: Processes) -> None:
    careful = fleet.worker()
    [its] = [one for one in Desk(api).get("workers")["workers"] if one["pid"] == careful.pid]
    assert its["chaos_drills"] is False
    assert Desk(api).refused("POST", "drills", worker=its["incarnation"]) == (403, "forbidden")
    assert Desk(api).refused("POST", "drills", worker="nobody") == (404, "worker_not_found")
    careful.check()
