"""`ekiden.Client` on real API and worker processes: whole answers, whatever dies in between."""

import asyncio

import pytest

from ekiden import Client
from ekiden.client import Answer, ClientClosed, Event, Superseded
from ekiden.errors import (
    BadCursor,
    EkidenError,
    FrameTooLarge,
    IdConflict,
    InvalidRequest,
    JobLost,
    ModelNotFound,
    OutOfRange,
    PromptTooLong,
)
from ekiden.protocol import Accepted, Delta, Done, Message, Started
from tests.support.client import begin, read_some, run
from tests.support.fake_engine import expected, expected_ids, text_of
from tests.support.processes import Api, Processes
from tests.support.waiting import until_async


def test_a_chat_is_text_frames_and_figures(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            assert await client.ping() > 0
            answer = client.chat("Hello", max_tokens=30, seed=1)
            assert (answer.job, answer.cursor, answer.finish_reason) == (None, 0, None)
            events: list[Event] = [event async for event in answer.events()]
            assert [type(event) for event in events[:2]] == [Accepted, Started]
            assert {type(event) for event in events[2:-1]} == {Delta}
            assert isinstance(events[-1], Done)
            assert answer.job == events[0].job
            assert (answer.finish_reason, answer.cursor) == ("length", 30)
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 30
            assert answer.timings is not None
            assert answer.timings.total_ms is not None
            prompt = [Message("system", "Be brief"), Message("user", "Hello")]
            messages: list[Message | dict[str, str]] = [prompt[0], {"role": "user", "content": "Hello"}]
            texts = [text async for text in client.chat(messages, max_tokens=30, seed=1)]
            assert "".join(texts) == text_of(expected_ids(prompt, 1, 30))

    run(body)


def test_many_answers_at_once(api: Api) -> None:
    async def body() -> None:
        async with Client(api.socket) as client:
            answers = [client.chat("Hello", max_tokens=20, seed=seed) for seed in range(60)]
            texts = await asyncio.gather(*(answer.text() for answer in answers))
            assert texts == [expected(20, seed=seed) for seed in range(60)]

    run(body)


def test_cancel_returns_when_the_job_has_ended_and_its_text_stays(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            answer, begun = await begin(client, 4000)
            await answer.cancel()
            assert answer.finish_reason == "cancelled"
            text = begun + await answer.text()
            assert text == expected(answer.cursor)
            await answer.cancel()
            early = client.chat("Hello", max_tokens=4000, seed=1)
            await early.cancel()  # before it was accepted
            assert early.finish_reason == "cancelled"

    run(body)


def test_a_second_client_follows_a_job_from_any_cursor(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client, Client(api.http) as other:
            answer, begun = await begin(client, 150)
            assert answer.job is not None
            whole = other.attach(answer.job)
            assert await whole.text() == expected(150)
            assert begun + await answer.text() == expected(150)
            assert await other.attach(answer.job, 100).text() == expected(150)[len(expected(100)) :]
            assert whole.cursor == 150

    run(body)


def test_a_later_answer_of_one_client_supersedes_an_earlier_one_of_the_job(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            first, _ = await begin(client, 400)
            assert first.job is not None
            second = client.attach(first.job)
            with pytest.raises(Superseded):
                await first.text()
            assert await second.text() == expected(400)

    run(body)


async def paused(answer: Answer) -> None:
    """Wait until the answer's buffer is full and text is being dropped."""

    async def condition() -> bool:
        return answer._follower.paused

    await until_async(condition, what="a full buffer")


def test_an_unread_answer_is_bounded_and_delays_no_other(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http, buffer_chars=1_000) as client:
            unread = client.chat("Hello", max_tokens=4000, seed=1)
            await paused(unread)
            assert await client.chat("Hello", max_tokens=100, seed=2).text() == expected(100, seed=2)
            await unread.cancel()
            done = unread._follower.terminal
            assert isinstance(done, Done)
            assert unread._follower.cursor < done.cursor
            assert await unread.text() == expected(done.cursor)

    run(body)


def test_a_slow_reader_of_a_running_job_misses_nothing(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http, buffer_chars=1_000) as client:
            slow = client.chat("Hello", max_tokens=4000, seed=1)
            text = ""
            for _ in range(3):
                await paused(slow)
                text += await read_some(slow, 12)
            await slow.cancel()
            text += await slow.text()
            assert text == expected(slow.cursor)

    run(body)


def test_errors_are_raised_as_their_classes(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            answer = client.chat("Hello", max_tokens=5, seed=1, request_id="mine")
            await answer.text()
            assert answer.job is not None
            refused: list[tuple[Answer, type[EkidenError]]] = [
                (client.chat("Hello", model="other"), ModelNotFound),
                (client.chat("Hello", temperature=3), OutOfRange),
                (client.chat([]), InvalidRequest),
                (client.chat("Other", request_id="mine"), IdConflict),
                (client.attach("no-such-job"), JobLost),
                (client.attach(answer.job, 6), BadCursor),
            ]
            for failing, kind in refused:
                with pytest.raises(kind) as caught:
                    await failing.text()
                assert caught.value.code == kind.code
            failing = client.chat("x" * 5000)
            with pytest.raises(PromptTooLong) as ended:
                await failing.text()
            assert (ended.value.job, ended.value.retryable) == (failing.job, False)
            assert failing.job is not None

    run(body)


def test_what_cannot_be_sent_is_refused_before_it_is_sent() -> None:
    async def body() -> None:
        async with Client() as client:
            with pytest.raises(OutOfRange):
                client.chat("Hello", temperature=float("nan"))
            with pytest.raises(InvalidRequest):
                client.chat("\udc80")
            with pytest.raises(FrameTooLarge):
                client.chat("x" * (1 << 20))

    run(body)


def test_closing_ends_open_answers_and_not_their_jobs(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    api = fleet.api()

    async def body() -> None:
        async with Client(api.http) as client:
            answer, begun = await begin(client)
            reading = asyncio.create_task(client.chat("Hello", max_tokens=4000).text())
            await asyncio.sleep(0)
        with pytest.raises(ClientClosed):
            await reading
        with pytest.raises(ClientClosed):
            client.chat("Hello")
        with pytest.raises(ClientClosed):
            begun += await answer.text()
        assert answer.job is not None
        async with Client(api.http) as other:
            rest = await other.attach(answer.job, answer.cursor).text()
            assert expected(200).startswith(begun)
            assert expected(200).endswith(rest)
            assert len(expected(answer.cursor)) + len(rest) == len(expected(200))

    run(body)


def test_a_reader_that_is_cancelled_leaves_the_answer_to_the_next_reader(fleet: Processes) -> None:
    api = fleet.api()

    async def body() -> None:
        async with Client(api.http) as client:
            answer = client.chat("Hello", max_tokens=20, seed=1)
            reader = asyncio.create_task(answer.text())
            await asyncio.sleep(0)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            await asyncio.to_thread(fleet.worker)
            assert await answer.text() == expected(20)

    run(body)


def test_a_client_that_fails_in_its_block_closes_too(api: Api) -> None:
    async def body() -> None:
        with pytest.raises(ZeroDivisionError):
            async with Client(api.http) as client:
                client.chat("Hello", max_tokens=4000)
                await client.connect()
                raise ZeroDivisionError

    run(body)
