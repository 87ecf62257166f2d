"""The contract over a real API process: one worker with a fake engine, several clients."""

import asyncio
import itertools
import json
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from ekiden.broker import queue_key
from ekiden.settings import Settings
from ekiden.store import BlockingStore
from ekiden.store.clients import POOL_CONNECTIONS
from ekiden_api.wakeups import MAX_UNREAD
from tests.support.fake_engine import expected
from tests.support.processes import Api, Processes
from tests.support.socket import Socket, connected
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

Body = Callable[[Socket], Coroutine[Any, Any, None]]


@asynccontextmanager
async def pair(first: Api, second: Api) -> AsyncIterator[tuple[Socket, Socket]]:
    async with connected(first.socket) as one, connected(second.socket) as two:
        yield one, two


def talk(api: Api, body: Body, **options: Any) -> None:
    """Run `body` on one connection."""

    async def run() -> None:
        async with connected(api.socket, **options) as socket:
            await body(socket)

    asyncio.run(run())


def test_a_chat_is_answered_frame_by_frame(api: Api) -> None:
    async def body(socket: Socket) -> None:
        job = await socket.chat(params={"max_tokens": 30, "seed": 1})
        assert await socket.answer(job) == expected(30)
        kinds = [frame["type"] for frame in socket.of(job)]
        assert kinds[:2] == ["accepted", "started"]
        assert set(kinds[2:-1]) == {"delta"}
        done = socket.frames[-1]
        assert (done["finish_reason"], done["cursor"]) == ("length", 30)
        assert done["usage"] == {
            "prompt_tokens": 11,
            "completion_tokens": 30,
            "cached_tokens": 0,
            "retokenized_tokens": 0,
        }
        assert 0 <= done["timings"]["queue_ms"] <= done["timings"]["ttft_ms"] <= done["timings"]["total_ms"]
        await socket.send(type="ping", id="p")
        assert await socket.receive() == {"type": "pong", "id": "p"}

    talk(api, body)


def test_many_jobs_on_one_connection(api: Api) -> None:
    async def body(socket: Socket) -> None:
        jobs = [await socket.chat(params={"max_tokens": 20, "seed": seed}) for seed in range(40)]
        for seed, job in enumerate(jobs):
            assert await socket.answer(job) == expected(20, seed=seed)

    talk(api, body)


def test_the_same_request_again_is_the_same_job_and_another_body_a_conflict(api: Api) -> None:
    async def body(socket: Socket) -> None:
        params = {"max_tokens": 20, "seed": 1}
        job = await socket.chat(id="same", params=params)
        first = await socket.answer(job)
        async with connected(api.socket) as other:
            assert await other.chat(id="same", params=params) == job
            assert await other.answer(job) == first == expected(20)
            assert [frame["type"] for frame in other.of(job)][:2] == ["accepted", "started"]
        await socket.send(type="chat", id="same", messages=[{"role": "user", "content": "Other"}], params=params)
        error = await socket.receive()
        assert (error["type"], error["code"], error["id"], error["job"]) == ("error", "id_conflict", "same", None)

    talk(api, body)


@pytest.mark.parametrize("cursor", [0, 7, 20])
def test_attach_gives_the_answer_from_the_cursor_on(api: Api, cursor: int) -> None:
    async def body(socket: Socket) -> None:
        job = await socket.chat(params={"max_tokens": 20, "seed": 1})
        await socket.answer(job)
        async with connected(api.socket) as other:
            await other.send(type="attach", id="a", job=job, cursor=cursor)
            attached = await other.receive()
            assert attached == {
                "type": "attached", "id": "a", "job": job, "state": "done", "attempt": 1, "cursor": cursor,
                "conversation": None,
            }  # fmt: skip
            assert await other.answer(job) == expected(20)[len(expected(cursor)) :]

    talk(api, body)


def test_an_attach_beyond_the_log_of_a_running_job_waits_for_the_excess(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.03")

    async def body(socket: Socket) -> None:
        job = await socket.chat(params={"max_tokens": 40, "seed": 1})
        async with connected(api.socket) as other:
            await other.send(type="attach", job=job, cursor=30)
            assert await other.answer(job) == expected(40)[len(expected(30)) :]
        await socket.answer(job)

    api = fleet.api()
    talk(api, body)


def test_attach_and_cancel_of_what_is_not_there(api: Api) -> None:
    async def body(socket: Socket) -> None:
        job = await socket.chat(params={"max_tokens": 5})
        await socket.answer(job)
        for frame, code in [
            ({"type": "attach", "job": "no-such-job"}, "job_lost"),
            ({"type": "attach", "job": job, "cursor": 6}, "bad_cursor"),
            ({"type": "cancel", "job": "no-such-job"}, "job_not_found"),
            ({"type": "park", "job": "no-such-job"}, "job_not_found"),
            ({"type": "resume", "job": "no-such-job"}, "job_not_found"),
        ]:
            await socket.send(id="x", **frame)
            error = await socket.receive()
            assert (error["type"], error["code"], error["id"], error["job"]) == ("error", code, "x", None)

    talk(api, body)


def test_cancel_is_answered_by_the_jobs_end_also_from_another_connection(api: Api) -> None:
    async def body(socket: Socket) -> None:
        job = await socket.chat(params={"max_tokens": 4000, "seed": 1})
        await socket.until("delta", job)
        async with connected(api.socket) as other:
            await other.send(type="cancel", job=job)
            done = await other.until("done", job)
            assert done["finish_reason"] == "cancelled"
            await other.send(type="cancel", job=job)
            assert await other.until("done", job) == done
        text = await socket.answer(job)
        assert text == expected(done["cursor"])

    talk(api, body)


def test_bad_frames_are_answered_and_disturb_nothing(api: Api) -> None:
    async def body(socket: Socket) -> None:
        job = await socket.chat(params={"max_tokens": 300, "seed": 1})
        bad: list[tuple[str | bytes, str]] = [
            ("no json", "invalid_frame"),
            (b"binary", "invalid_frame"),
            ('{"type":"zap"}', "invalid_frame"),
            ('{"type":"chat","messages":[{"role":"user","content":"x"}],"mood":1}', "invalid_request"),
            ('{"type":"chat","messages":[]}', "invalid_request"),
            ('{"type":"chat","messages":[{"role":"user","content":"x"}],"params":{"top_p":NaN}}', "out_of_range"),
            ('{"type":"chat","messages":[{"role":"user","content":"x"}],"params":{"max_tokens":4097}}', "out_of_range"),
            ('{"type":"chat","messages":[{"role":"user","content":"x"}],"model":"other"}', "model_not_found"),
            ('{"type":"chat","conversation":"new"}', "invalid_request"),
            ('{"type":"park","job":"j"}', "job_not_found"),
            ('{"type":"resume","job":"j"}', "job_not_found"),
            (json.dumps({"type": "ping", "pad": "x" * 1_100_000}), "frame_too_large"),
        ]
        for data, code in bad:
            await socket.connection.send(data)
            error = await socket.until("error")
            assert (error["code"], error["job"]) == (code, None), data[:80]
        assert await socket.answer(job) == expected(300)

    talk(api, body)


def test_a_prompt_that_does_not_fit_is_the_jobs_error_with_both_numbers(api: Api) -> None:
    async def body(socket: Socket) -> None:
        await socket.send(type="chat", id="long", messages=[{"role": "user", "content": "x" * 5000}])
        error = await socket.until("error")
        assert (error["code"], error["id"]) == ("prompt_too_long", "long")
        assert error["job"] == socket.frames[0]["job"]
        assert "5006" in error["message"]
        assert "4096" in error["message"]

    talk(api, body)


@pytest.mark.parametrize(("data", "code"), [(b"\x00" * (5 << 20), 1009), ("x" * (5 << 20), 1009)])
def test_a_frame_over_the_hard_limit_closes_the_connection(api: Api, data: str | bytes, code: int) -> None:
    async def body(socket: Socket) -> None:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.connection.send(data)
            await socket.receive()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == code

    talk(api, body)


def test_invalid_utf_8_closes_with_1007(api: Api) -> None:
    async def body(socket: Socket) -> None:
        with pytest.raises(ConnectionClosed) as caught:
            await socket.connection.send(b"\xff\xfe", text=True)
            await socket.receive()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1007

    talk(api, body)


def test_two_clients_on_two_processes_both_see_all_of_a_job(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    first, second = fleet.api(), fleet.api()

    async def run() -> None:
        async with pair(first, second) as (one, two):
            job = await one.chat(params={"max_tokens": 150, "seed": 1})
            await one.until("delta", job)
            await two.send(type="attach", job=job, cursor=0)
            assert await asyncio.gather(one.answer(job), two.answer(job)) == [expected(150)] * 2

    asyncio.run(run())


def test_a_killed_api_loses_nothing_and_another_goes_on_at_the_cursor(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    first, second = fleet.api(), fleet.api()

    async def run() -> None:
        async with connected(first.socket) as one:
            job = await one.chat(params={"max_tokens": 200, "seed": 1})
            for _ in range(5):
                await one.until("delta", job)
            first.end(signal.SIGKILL)
            with pytest.raises(ConnectionClosed):
                while True:
                    await one.receive()
            seen = one.text(job)
            cursor = max(frame["cursor"] for frame in one.of(job) if frame["type"] == "delta")
        async with connected(second.socket) as two:
            await two.send(type="attach", job=job, cursor=cursor)
            assert seen + await two.answer(job) == expected(200)

    asyncio.run(run())


def test_a_killed_worker_is_a_move_and_the_same_text(fleet: Processes) -> None:
    worker = fleet.worker(EKIDEN_TEST_STEP_S="0.2")
    api = fleet.api()

    async def body(socket: Socket) -> None:
        job = await socket.chat(params={"max_tokens": 150, "seed": 1})
        for _ in range(5):
            await socket.until("delta", job)
        fleet.worker(EKIDEN_TEST_STEP_S="0.005")
        worker.end(signal.SIGKILL)
        moved = await socket.until("moved", job)
        assert moved["attempt"] == 2
        assert await socket.answer(job) == expected(150)

    talk(api, body)


def test_a_client_that_does_not_read_gets_the_whole_answer_later(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.0005")
    api = fleet.api(EKIDEN_OUTBOX_BYTES="2000")

    async def body(socket: Socket) -> None:
        jobs = [await socket.chat(params={"max_tokens": 1500, "seed": seed}) for seed in range(8)]
        async with connected(api.socket) as other:  # the same job, read at once: it is over when this returns
            await other.send(type="attach", job=jobs[-1])
            await other.answer(jobs[-1])
        for seed, job in enumerate(jobs):
            assert await socket.answer(job) == expected(1500, seed=seed)

    talk(api, body)


def test_a_job_whose_client_left_ends_after_its_grace(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.02", EKIDEN_ABANDON_GRACE_S="0.3")
    api = fleet.api(EKIDEN_ABANDON_GRACE_S="0.3")

    async def run() -> None:
        jobs: dict[str, str] = {}
        async with connected(api.socket) as socket:
            for rule in ("keep", "cancel"):
                jobs[rule] = await socket.chat(params={"max_tokens": 3000}, on_disconnect=rule)
                await socket.until("delta", jobs[rule])
        async with httpx.AsyncClient(verify=False, base_url=api.http) as http:
            for job in jobs.values():
                while (await http.get(f"/v1/jobs/{job}")).json()["state"] == "running":
                    await asyncio.sleep(0.05)
        async with connected(api.socket) as other:
            await other.send(type="attach", job=jobs["cancel"])
            assert (await other.until("done"))["finish_reason"] == "cancelled"
            await other.send(type="attach", job=jobs["keep"])
            assert (await other.until("error"))["code"] == "abandoned"

    asyncio.run(run())


def test_more_clients_than_connections_to_the_store_are_all_served(api: Api) -> None:
    async def ask(number: int) -> None:
        async with connected(api.socket) as socket:
            job = await socket.chat(params={"max_tokens": 3, "seed": number})
            assert await socket.answer(job) == expected(3, seed=number)

    async def run() -> None:
        await asyncio.gather(*(ask(number) for number in range(3 * POOL_CONNECTIONS)))

    asyncio.run(run())


def test_a_chat_whose_reply_was_lost_is_alive_when_it_is_sent_again(
    own_valkey: ValkeyServer, make_settings: Callable[..., Settings], fleet_of: Callable[[Settings], Processes]
) -> None:
    fleet = fleet_of(make_settings(redis_url=own_valkey.url))
    fleet.worker(EKIDEN_TEST_STEP_S="0.02")
    api = fleet.api()
    chat = {"type": "chat", "id": "mine", "messages": [{"role": "user", "content": "Hello"}]}
    chat |= {"on_disconnect": "cancel", "params": {"max_tokens": 100, "seed": 1}}

    async def body(socket: Socket) -> None:
        await socket.chat(params={"max_tokens": 1})
        own_valkey.send(signal.SIGSTOP)
        await socket.send(**chat)
        assert (await socket.until("error"))["code"] == "store_unavailable"
        own_valkey.send(signal.SIGCONT)
        await socket.send(**chat)
        job = (await socket.until("accepted"))["job"]
        assert await socket.answer(job) == expected(100)

    talk(api, body)


def test_a_frame_that_cannot_be_read_does_not_end_the_streams(store: BlockingStore, api: Api) -> None:
    [replica] = store.redis.zrange(store.keys.replicas, 0, -1)
    assert store.redis.publish(store.keys.out(replica.decode()), b"\x91\xc1") == 1

    async def body(socket: Socket) -> None:
        job = await socket.chat(params={"max_tokens": 200, "seed": 1})
        assert await socket.answer(job) == expected(200)
        assert len([frame for frame in socket.of(job) if frame["type"] == "delta"]) > 5

    talk(api, body)
    assert "frame_not_understood" in api.text()


def test_a_client_that_pings_and_does_not_read_is_dropped(api: Api) -> None:
    async def body(socket: Socket) -> None:
        socket.connection.transport.pause_reading()
        with pytest.raises((ConnectionClosed, OSError)):
            for number in itertools.count():
                await socket.connection.ping(f"{number:0125}")

    talk(api, body)


def test_wake_ups_do_not_pile_up_while_no_worker_reads_them(
    settings: Settings, store: BlockingStore, fleet: Processes
) -> None:
    store.redis.rpush(queue_key(settings), *(b"unread" for _ in range(MAX_UNREAD - 1)))
    api = fleet.api()

    async def body(socket: Socket) -> None:
        for _ in range(3):
            await socket.chat()

    talk(api, body)
    until(lambda: store.redis.llen(queue_key(settings)) == MAX_UNREAD)
    talk(api, body)
    assert store.redis.llen(queue_key(settings)) == MAX_UNREAD
