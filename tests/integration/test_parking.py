"""Park and resume over the contract and the SDK: real API and worker processes."""

import asyncio
import signal

import pytest

from ekiden.client import Client
from ekiden.protocol import Moved, Parked, Queued
from tests.support import http
from tests.support.client import begin, run
from tests.support.fake_engine import expected
from tests.support.processes import Api, Processes
from tests.support.socket import connected
from tests.support.waiting import until


def state(api: Api, job: str) -> str:
    return str(http.get(f"{api.http}/v1/jobs/{job}").json()["state"])


def running(api: Api) -> list[int]:
    """How many jobs each worker runs."""
    return [worker["running"] for worker in http.get(f"{api.http}/admin/api/workers").json()["workers"]]


def test_an_answer_is_held_between_two_tokens_and_goes_on_exactly(api: Api) -> None:
    async def body() -> None:
        async with connected(api.socket) as socket:
            job = await socket.chat(params={"max_tokens": 400, "seed": 1})
            await socket.until("delta", job)
            await socket.send(type="park", job=job)
            await socket.until("parked", job)
            held = socket.text(job)
            assert expected(400).startswith(held)
            assert state(api, job) == "parked"
            until(lambda: running(api) == [0], what="a free slot")
            await socket.send(type="resume", job=job)
            assert await socket.answer(job) == expected(400)
            assert [frame["attempt"] for frame in socket.of(job) if frame["type"] == "moved"] == [2]

    asyncio.run(body())


def test_a_held_job_outlives_worker_api_and_client(fleet: Processes) -> None:
    worker = fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    first, second = fleet.api(), fleet.api()

    async def body() -> None:
        async with connected(first.socket) as one, connected(second.socket) as two:
            job = await one.chat(params={"max_tokens": 300, "seed": 1})
            await one.until("delta", job)
            await two.send(type="park", job=job)
            await two.until("parked", job)
            await one.until("parked", job)
            held = one.text(job)
        worker.end(signal.SIGKILL)
        first.end(signal.SIGKILL)
        fleet.worker(EKIDEN_TEST_STEP_S="0.01")
        async with connected(second.socket) as three:
            await three.send(type="attach", job=job, cursor=0)
            assert (await three.until("attached"))["state"] == "parked"
            await three.until("parked", job)
            assert three.text(job) == held
            await three.send(type="resume", job=job)
            assert await three.answer(job) == expected(300)

    asyncio.run(body())


@pytest.mark.parametrize("moment", ["queued", "before its first token"])
def test_a_job_is_held_before_it_has_text(fleet: Processes, moment: str) -> None:
    if moment != "queued":
        fleet.worker()
    api = fleet.api()

    async def body() -> None:
        async with connected(api.socket) as socket:
            text = "Hello" if moment == "queued" else "WAIT"
            job = await socket.chat(text, params={"max_tokens": 20, "seed": 1})
            if moment != "queued":
                await socket.until("started", job)
            await socket.send(type="park", job=job)
            await socket.until("parked", job)
            await socket.send(type="resume", job=job)
            await socket.until("queued" if moment == "queued" else "moved", job)
            await socket.send(type="cancel", job=job)
            assert (await socket.until("done", job))["finish_reason"] == "cancelled"

    asyncio.run(body())


def test_an_order_that_comes_too_late_is_answered_by_the_end(api: Api) -> None:
    async def body() -> None:
        async with connected(api.socket) as socket:
            job = await socket.chat(params={"max_tokens": 5, "seed": 1})
            await socket.answer(job)
            end = socket.of(job)[-1]
            for order in ("park", "resume"):
                await socket.send(type=order, job=job)
                assert await socket.until("done", job) == end

    asyncio.run(body())


def test_the_client_parks_and_resumes_and_reads_the_whole_text(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            answer, text = await begin(client, 400)
            await answer.park()
            assert state(api, answer.job or "") == "parked"
            answer.resume()
            seen = []
            async for event in answer.events():
                seen.append(type(event))
                text += getattr(event, "text", "")
            assert text == expected(400)
            assert Parked in seen
            assert Moved in seen or Queued in seen
            await answer.park()  # it is over: nothing to wait for

    run(body)


def test_a_park_is_answered_whatever_was_asked_before(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client, connected(api.socket) as other:
            answer, text = await begin(client, 400)
            await answer.park()
            await answer.park()
            for _ in range(5):
                answer.resume()
                await answer.park()
            answer.resume()
            parking = asyncio.create_task(answer.park())
            await asyncio.sleep(0)
            answer.resume()
            await parking  # no longer wanted
            job = answer.job
            for order in ("park", "resume", "park", "resume", "park"):
                await other.send(type=order, job=job)
            await other.until("parked", job)
            await answer.park()
            answer.resume()
            assert text + await answer.text() == expected(400)

    run(body)


def test_a_park_is_asked_again_when_the_api_dies(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.02")
    first, second = fleet.api(), fleet.api()

    async def body() -> None:
        async with Client([first.http, second.http]) as client:
            answer, text = await begin(client, 300)
            first.send(signal.SIGSTOP)  # it takes the order and does nothing with it
            parking = asyncio.create_task(answer.park())
            await asyncio.to_thread(first.end, signal.SIGKILL)
            await parking
            until(lambda: state(second, answer.job or "") == "parked")
            answer.resume()
            text += await answer.text()
            assert text == expected(300)

    run(body)
