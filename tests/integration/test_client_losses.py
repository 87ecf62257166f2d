"""`ekiden.Client` when connections, processes and services are lost or refuse: it asks again while that can help."""

import asyncio
import signal
from typing import Any

import httpx
import pytest

from ekiden import Client
from ekiden.client import Answer, Unreachable
from ekiden.errors import (
    EkidenError,
    Forbidden,
    QueueFull,
    Unauthorized,
)
from ekiden.protocol import Attached, Delta, Moved
from tests.support.client import begin, read_some, run
from tests.support.fake_engine import expected
from tests.support.nowhere import NOWHERE
from tests.support.processes import Api, Processes
from tests.support.relay import relay_to
from tests.support.waiting import until_async


def test_answers_survive_a_killed_api_through_another_url(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    first, second = fleet.api(), fleet.api()

    async def body() -> None:
        async with Client([first.http, second.http]) as client:
            answers = [client.chat("Hello", max_tokens=200, seed=seed) for seed in range(5)]
            begun = await asyncio.gather(*(read_some(answer) for answer in answers))
            first.end(signal.SIGKILL)
            rest = await asyncio.gather(*(answer.text() for answer in answers))
            assert [a + b for a, b in zip(begun, rest, strict=True)] == [expected(200, seed=seed) for seed in range(5)]

    run(body)


def test_an_answer_survives_a_killed_api_that_comes_back(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    api = fleet.api()

    async def body() -> None:
        async with Client(api.http) as client:
            answer, begun = await begin(client)
            api.end(signal.SIGKILL)
            await asyncio.to_thread(fleet.api, EKIDEN_PORT=str(api.port))
            events = [event async for event in answer.events()]
            assert any(isinstance(event, Attached) for event in events)
            assert begun + "".join(e.text for e in events if isinstance(e, Delta)) == expected(200)

    run(body)


def test_an_answer_survives_a_killed_worker_and_the_move_is_seen(fleet: Processes) -> None:
    worker = fleet.worker(EKIDEN_TEST_STEP_S="0.02")
    api = fleet.api()

    async def body() -> None:
        async with Client(api.http) as client:
            answer, begun = await begin(client, 1000)  # as long as the start of a worker takes on a busy machine
            await asyncio.to_thread(fleet.worker, EKIDEN_TEST_STEP_S="0.005")
            worker.end(signal.SIGKILL)
            events = [event async for event in answer.events()]
            assert [event.attempt for event in events if isinstance(event, Moved)] == [2]
            assert begun + "".join(e.text for e in events if isinstance(e, Delta)) == expected(1000)

    run(body)


def test_text_is_exact_over_many_lost_connections(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    api = fleet.api()

    async def body() -> None:
        async with relay_to(api.port) as relay, Client(relay.url) as client:
            answers = [client.chat("Hello", max_tokens=250, seed=seed) for seed in range(4)]

            async def read(answer: Answer) -> str:
                texts: list[str] = []
                async for text in answer:
                    texts.append(text)
                    if answer is answers[0] and len(texts) % 5 == 0:
                        relay.cut()
                return "".join(texts)

            assert await asyncio.gather(*map(read, answers)) == [expected(250, seed=seed) for seed in range(4)]
            assert relay.connections > 3

    run(body)


def test_a_chat_that_was_not_acknowledged_is_sent_again_and_is_one_job(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.005")
    api = fleet.api()

    async def body() -> None:
        async with relay_to(api.port) as relay, Client(relay.url) as client:
            await client.connect()
            relay.mute()  # the server hears the chat; its answer is lost
            answer = client.chat("Hello", max_tokens=20, seed=1)
            jobs = await until_async(lambda: _jobs(api), what="the job in the store")
            relay.cut()
            assert await answer.text() == expected(20)
            assert await _jobs(api) == jobs == [answer.job]

    run(body)


async def _jobs(api: Api) -> list[str]:
    async with httpx.AsyncClient(verify=False, base_url=api.http) as http:
        listed: dict[str, Any] = (await http.get("/admin/api/jobs")).json()
    return [job["id"] for job in listed["jobs"]]


def test_a_cancel_survives_a_lost_connection(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    api = fleet.api()

    async def body() -> None:
        async with relay_to(api.port) as relay, Client(relay.url) as client:
            answer, _ = await begin(client, 4000)
            relay.refuse()
            relay.cut()
            cancelling = asyncio.create_task(answer.cancel())
            await asyncio.wait_for(relay.turned_away.wait(), 20)
            relay.accept()
            await cancelling
            assert answer.finish_reason == "cancelled"

    run(body)


def test_a_full_queue_is_asked_again_until_there_is_room(fleet: Processes) -> None:
    api = fleet.api(EKIDEN_MAX_QUEUED_JOBS="1")

    async def body() -> None:
        reasons: asyncio.Queue[str] = asyncio.Queue()
        async with Client(api.http, on_retry=lambda retry: reasons.put_nowait(retry.reason)) as client:
            first = client.chat("Hello", max_tokens=20, seed=1)
            second = client.chat("Hello", max_tokens=20, seed=2)
            assert "full" in await asyncio.wait_for(reasons.get(), 20)
            async with Client(api.http, give_up_after_s=0) as hasty:
                with pytest.raises(QueueFull):
                    await hasty.chat("Hello").text()
            await first.cancel()
            await asyncio.to_thread(fleet.worker)
            assert await second.text() == expected(20, seed=2)

    run(body)


def test_a_wrong_key_and_a_foreign_host_are_not_tried_again(fleet: Processes) -> None:
    fleet.worker()
    api = fleet.api(EKIDEN_API_KEYS="ann:right")

    async def body() -> None:
        for key in ("wrong", None):
            async with Client(api.http, api_key=key, give_up_after_s=None) as client:
                with pytest.raises(Unauthorized):
                    await client.chat("Hello").text()
        async with Client(api.http, api_key="right") as client:
            assert await client.chat("Hello", max_tokens=20, seed=1).text() == expected(20)
        # The resolver takes this for 127.0.0.1; as a Host it is on no list.
        async with Client(f"http://127.1:{api.port}", api_key="right", give_up_after_s=None) as client:
            with pytest.raises(Forbidden, match="EKIDEN_ALLOWED_HOSTS"):
                await client.connect()

    run(body)


@pytest.mark.parametrize(
    ("status", "kind", "attempts"),
    [("404 Not Found", Unreachable, 1), ("403 Forbidden", Forbidden, 1), ("503 Service Unavailable", Unreachable, 2)],
)
def test_an_http_status_is_tried_again_only_when_it_can_pass(
    status: str, kind: type[EkidenError], attempts: int
) -> None:
    asked = 0

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def body() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with Client(url, give_up_after_s=0.3) as client:
                with pytest.raises(kind, match=f"HTTP {status[:3]}"):
                    await client.chat("Hello").text()
        assert asked == 1 if attempts == 1 else asked >= attempts

    run(body)


def test_a_service_that_is_not_there_ends_the_answer_when_patience_does() -> None:
    async def body() -> None:
        urls = [f"http://{nowhere}" for nowhere in NOWHERE]
        async with Client(urls, give_up_after_s=0.3) as client:
            with pytest.raises(Unreachable):
                await client.chat("Hello").text()
            with pytest.raises(Unreachable):
                await client.ping()
        async with Client(urls, give_up_after_s=None) as client:
            with pytest.raises(Unreachable):
                await client.connect()

    run(body)


def test_one_good_url_of_several_is_enough_to_connect(api: Api) -> None:
    async def body() -> None:
        async with Client([f"http://{NOWHERE[0]}", api.http]) as client:
            await client.connect()
            assert await client.chat("Hello", max_tokens=20, seed=1).text() == expected(20)

    run(body)


def test_a_server_that_hangs_is_left_for_the_next(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    first, second = fleet.api(), fleet.api()

    async def body() -> None:
        async with Client([first.http, second.http], keepalive_s=0.3) as client:
            answer, begun = await begin(client)
            first.send(signal.SIGSTOP)
            assert begun + await answer.text() == expected(200)

    run(body)
