"""Kept conversations through `ekiden.Client`, on real API and worker processes."""

import asyncio
import signal
from http import HTTPStatus
from typing import Any

import pytest

from ekiden import Client
from ekiden.client import ClientClosed, Conversation, Retry, Unreachable
from ekiden.conversations import Pending
from ekiden.errors import (
    ConversationBusy,
    ConversationNotFound,
    EkidenError,
    InvalidRequest,
    JobNotFound,
    OutOfRange,
    Unauthorized,
)
from ekiden.protocol import Attached, Message
from tests.support.client import begin, next_answer, read_some, run
from tests.support.fake_engine import expected, expected_ids, text_of
from tests.support.nowhere import NOWHERE
from tests.support.processes import Api, Processes
from tests.support.relay import relay_to
from tests.support.waiting import until_async


async def all_of(client: Client) -> list[Conversation]:
    return [conversation async for conversation in client.conversations.list()]


async def busy(client: Client) -> Conversation:
    """The one conversation there is, once an answer is under way in it."""

    async def found() -> Conversation | None:
        return next((each for each in await all_of(client) if each.busy), None)

    conversation = await until_async(found, what="an answer under way")
    assert conversation is not None
    return conversation


async def kept(client: Client, *lines: str) -> str:
    """The id of a conversation in which these lines were answered with 20 words each."""
    conversation = "new"
    for line in lines:
        answer = client.chat(line, conversation=conversation, max_tokens=20, seed=1)
        await answer.text()
        assert answer.conversation is not None
        conversation = answer.conversation
    return conversation


async def said(client: Client, conversation: str) -> list[tuple[str, str]]:
    return [(turn.message, turn.answer) for turn in (await client.conversations.get(conversation)).turns]


def test_every_turn_goes_on_from_the_ids_before_it(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            first = client.chat("One", conversation="new", max_tokens=20, seed=1)
            assert first.conversation is None
            assert await first.text() == (one := expected(20, "One"))
            assert first.conversation is not None
            second = client.chat("Two", conversation=first.conversation, max_tokens=20, seed=1)
            assert await second.text() == (two := next_answer(20, "One", one, "Two"))
            third = client.chat("Three", conversation=first.conversation, max_tokens=20, seed=1)
            assert await third.text() == (three := next_answer(20, "One", one, "Two", two, "Three"))
            assert first.conversation == second.conversation == third.conversation
            assert await said(client, first.conversation) == [("One", one), ("Two", two), ("Three", three)]

    run(body)


def test_a_conversation_is_seeded_with_all_messages(api: Api) -> None:
    async def body() -> None:
        messages = [
            Message("system", "Be brief"),
            Message("user", "Hi"),
            Message("assistant", "Hi."),
            Message("user", "?"),
        ]
        async with Client(api.http) as client:
            answer = client.chat(messages, conversation="new", max_tokens=20, seed=1)
            assert await answer.text() == text_of(expected_ids(messages, 1, 20))
            assert answer.conversation is not None
            whole = await client.conversations.get(answer.conversation)
            assert whole.messages == messages[:-1]
            assert [turn.message for turn in whole.turns] == ["?"]

    run(body)


def test_what_a_cancelled_answer_showed_is_part_of_the_conversation(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            answer = client.chat("One", conversation="new", max_tokens=4000, seed=1)
            shown = await read_some(answer)
            await answer.cancel()
            shown += await answer.text()
            assert answer.conversation is not None
            following = client.chat("Two", conversation=answer.conversation, max_tokens=20, seed=1)
            assert await following.text() == next_answer(20, "One", shown, "Two")

    run(body)


def test_a_turn_is_answered_again_and_an_edited_one_forks(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            conversation = await kept(client, "One", "Two", "Three")
            one = expected(20, "One")
            again = client.regenerate(conversation, max_tokens=30, seed=2)
            two = next_answer(20, "One", one, "Two")
            three = next_answer(30, "One", one, "Two", two, "Three", seed=2)
            assert await again.text() == three
            assert again.conversation == conversation
            assert (await said(client, conversation))[1:] == [("Two", two), ("Three", three)]
            edited = client.regenerate(conversation, turn=2, message="Second", max_tokens=20, seed=1)
            second = next_answer(20, "One", one, "Second")
            assert await edited.text() == second
            assert await said(client, conversation) == [("One", one), ("Second", second)]
            with pytest.raises(OutOfRange):
                await client.regenerate(conversation, turn=3).text()

    run(body)


def test_the_id_is_known_after_a_lost_connection_and_to_whoever_attaches(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    api = fleet.api()

    async def body() -> None:
        async with relay_to(api.port) as relay, Client(relay.url) as client, Client(api.http) as other:
            answer = client.chat("Hello", conversation="new", max_tokens=200, seed=1)
            begun = await read_some(answer)
            assert answer.conversation is not None
            assert answer.job is not None
            relay.cut()
            events = [event async for event in answer.events()]
            assert [event.conversation for event in events if isinstance(event, Attached)] == [answer.conversation]
            attached = other.attach(answer.job)
            assert await attached.text() == expected(200)
            assert expected(200).startswith(begun)
            assert attached.conversation == answer.conversation
            alone, _ = await begin(client, 20)
            await alone.text()
            assert alone.conversation is None

    run(body)


def test_an_api_killed_before_it_could_acknowledge_leaves_one_conversation(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.005")
    api, other = fleet.api(), fleet.api()

    async def body() -> None:
        async with relay_to(api.port) as relay, Client(relay.url) as client, Client(other.http) as watching:
            await client.connect()
            relay.mute()  # the server hears the chat; its answer is lost
            answer = client.chat("Hello", conversation="new", max_tokens=20, seed=1)
            begun = await busy(watching)
            api.end(signal.SIGKILL)
            await asyncio.to_thread(fleet.api, EKIDEN_PORT=str(api.port))
            assert await answer.text() == expected(20)
            assert (answer.job, answer.conversation) == (begun.busy, begun.id)
            assert [each.id for each in await all_of(watching)] == [begun.id]
            assert await said(watching, begun.id) == [("Hello", expected(20))]

    run(body)


@pytest.mark.parametrize("over", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_a_turn_that_was_not_acknowledged_is_asked_again_and_is_not_in_its_own_way(
    fleet: Processes, again: bool, over: bool
) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.01")
    api = fleet.api()

    async def body() -> None:
        async with relay_to(api.port) as relay, Client(relay.url) as client, Client(api.http) as watching:
            conversation = await kept(watching, "One")
            await client.connect()
            relay.mute()  # the server hears the question; its answer is lost
            if again:
                answer = client.regenerate(conversation, message="Two", max_tokens=100, seed=1)
            else:
                answer = client.chat("Two", conversation=conversation, max_tokens=100, seed=1)
            job = (await busy(watching)).busy
            assert job is not None
            if over:
                await watching.attach(job).text()
            relay.cut()
            one = expected(20, "One")
            two = expected(100, "Two") if again else next_answer(100, "One", one, "Two")
            assert await answer.text() == two
            assert answer.job == job
            turns = await said(watching, conversation)
            assert turns == ([("Two", two)] if again else [("One", one), ("Two", two)])

    run(body)


def test_a_busy_conversation_is_the_callers_to_wait_for(api: Api) -> None:
    async def body() -> None:
        retries: list[Retry] = []
        async with Client(api.http, on_retry=retries.append) as client:
            answer = client.chat("One", conversation="new", max_tokens=4000, seed=1)
            await read_some(answer)
            conversation = answer.conversation
            assert conversation is not None
            for refused in (client.chat("Two", conversation=conversation), client.regenerate(conversation)):
                with pytest.raises(ConversationBusy) as caught:
                    await refused.text()
                assert caught.value.retryable
            assert retries == []
            whole = await client.conversations.get(conversation)
            assert (whole.busy, whole.pending) == (answer.job, Pending(1, "One"))
            await answer.cancel()
            assert await client.chat("Two", conversation=conversation, max_tokens=5).text()

    run(body)


def test_a_kept_conversation_takes_one_text(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            conversation = await kept(client, "One")
            with pytest.raises(InvalidRequest, match="one text"):
                client.chat([Message("user", "Two")], conversation=conversation)

    run(body)


@pytest.mark.parametrize("name", ["", None, 5])
def test_an_id_that_is_none_is_refused(api: Api, name: Any) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            for call in (client.conversations.get, client.conversations.delete):
                with pytest.raises(InvalidRequest, match="id is a text"):
                    await call(name)

    run(body)


def test_conversations_are_listed_read_renamed_and_deleted(api: Api) -> None:
    async def body() -> None:
        async with Client(api.http) as client:
            ids = [await kept(client, line) for line in ("One", "Two", "Three")]
            assert [(each.id, each.title, each.turn_count) for each in await all_of(client)] == [
                (ids[2], "Three", 1),
                (ids[1], "Two", 1),
                (ids[0], "One", 1),
            ]
            renamed = await client.conversations.rename(ids[0], "Née ⅓ “x”")
            assert (renamed.id, renamed.title) == (ids[0], "Née ⅓ “x”")
            whole = await client.conversations.get(ids[0])
            assert (whole.title, whole.busy, whole.messages) == ("Née ⅓ “x”", None, [])
            assert [(turn.turn, turn.message, turn.answer) for turn in whole.turns] == [(1, "One", expected(20, "One"))]
            assert (await client.conversations.get(ids[0], before=1)).turns == []
            await client.conversations.delete(ids[1])
            assert [each.id for each in await all_of(client)] == [ids[0], ids[2]]
            for gone in (
                client.conversations.get(ids[1]),
                client.conversations.rename("a?b#c", "No such one"),
                client.conversations.delete(ids[1]),
                client.chat("More", conversation=ids[1]).text(),
                client.regenerate(ids[1]).text(),
            ):
                with pytest.raises(ConversationNotFound):
                    await gone
            for title in (" ", "\udc80"):
                with pytest.raises(InvalidRequest):
                    await client.conversations.rename(ids[0], title)

    run(body)


def test_a_list_goes_on_over_all_pages(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ekiden.client.conversations.PAGE_SIZE", 2)

    async def body() -> None:
        async with Client(api.http) as client:
            ids = [await kept(client, "Hello") for _ in range(5)]
            assert [each.id for each in await all_of(client)] == ids[::-1]

    run(body)


def test_conversations_belong_to_the_user_of_the_key(fleet: Processes) -> None:
    fleet.worker(EKIDEN_TEST_STEP_S="0.005")
    api = fleet.api(EKIDEN_API_KEYS="ann:right,bob:other")

    async def body() -> None:
        async with Client(api.http, api_key="right") as ann, Client(api.http, api_key="other") as bob:
            conversation = await kept(ann, "Hello")
            assert await all_of(bob) == []
            with pytest.raises(ConversationNotFound):
                await bob.conversations.get(conversation)
            assert len(await all_of(ann)) == 1
        async with Client(api.http) as stranger:
            with pytest.raises(Unauthorized):
                await all_of(stranger)

    run(body)


def test_a_service_that_is_not_there_is_looked_for_at_every_url(api: Api) -> None:
    async def body() -> None:
        nowhere = f"http://{NOWHERE[0]}"
        async with Client([nowhere, api.http]) as client:
            assert await all_of(client) == []
        async with Client(nowhere) as client:
            with pytest.raises(Unreachable, match="cannot be reached"):
                await all_of(client)

    run(body)


@pytest.mark.parametrize(
    ("status", "answer", "kind", "words"),
    [
        (HTTPStatus.OK, "<html>", Unreachable, "may be another service"),
        (HTTPStatus.BAD_GATEWAY, "{}", Unreachable, "HTTP 502"),
        (HTTPStatus.NOT_FOUND, '{"error":{"code":"job_not_found","message":"None."}}', JobNotFound, "None."),
    ],
)
def test_what_another_service_answers_is_an_error_too(
    status: HTTPStatus, answer: str, kind: type[EkidenError], words: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} {status.phrase}\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n"
        writer.write((head + answer).encode())
        await writer.drain()
        writer.close()

    async def body() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server, Client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
            with pytest.raises(kind, match=words):
                await client.conversations.get("c1")

    run(body)


def test_conversations_are_there_while_the_client_is_open(api: Api) -> None:
    async def body() -> None:
        client = Client(api.http)
        with pytest.raises(ClientClosed):
            _ = client.conversations
        async with client:
            conversations = client.conversations
            await all_of(client)
        with pytest.raises(ClientClosed):
            await conversations.get("c1")

    run(body)
