"""Conversations over the contract: a real API process, with workers played through the store."""

import asyncio
import signal
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import httpx
import msgspec
import pytest

from ekiden.memory import StoredPrompt
from ekiden.protocol import JobRequest
from ekiden.settings import Settings, load_settings
from ekiden.store.types import Claimed
from tests.support.processes import Api, Processes, processes
from tests.support.socket import Frame, Socket, connected
from tests.support.store_fleet import MODEL, Fleet
from tests.support.valkey import ValkeyServer

Body = Callable[[Socket], Awaitable[None]]


@pytest.fixture(scope="module")
def settings(valkey: ValkeyServer) -> Settings:
    return load_settings(redis_url=valkey.url, key_prefix=f"test-{uuid.uuid4().hex[:12]}", model=MODEL)


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with processes(settings, tmp_path_factory.mktemp("conversations")) as group:
        yield group.api(EKIDEN_MODEL=MODEL)


@pytest.fixture
def fleet(settings: Settings) -> Iterator[Fleet]:
    """The store, and a worker named w."""
    with closing(Fleet(settings)) as fleet:
        fleet.worker("w")
        yield fleet


def talk(api: Api, body: Body) -> None:
    """Run `body` on one connection."""

    async def run() -> None:
        async with connected(api.socket) as socket:
            await body(socket)

    asyncio.run(run())


async def ask(socket: Socket, **frame: Any) -> Frame:
    """Send a frame, and receive what answers it."""
    frame = {"type": "chat", "id": str(uuid.uuid4()), **frame}
    await socket.send(**frame)
    while True:
        answer = await socket.receive()
        if answer.get("id") == frame["id"]:
            return answer


async def refused(socket: Socket, **frame: Any) -> str:
    """Send a frame that is refused; the code."""
    answer = await ask(socket, **frame)
    assert (answer["type"], answer["job"]) == ("error", None)
    assert answer["message"].endswith(".")
    return str(answer["code"])


async def begin(socket: Socket, fleet: Fleet, *messages: str) -> str:
    """A conversation in which each message was answered by itself in capitals."""
    conversation = "new"
    for message in messages:
        accepted = await ask(socket, conversation=conversation, message=message)
        conversation = accepted["conversation"]
        fleet.answer("w", message.upper())
        await socket.answer(accepted["job"])
    return conversation


def request_of(claim: Claimed) -> JobRequest:
    return msgspec.msgpack.decode(claim.request, type=JobRequest)


def test_a_conversation_goes_on_with_messages_alone(api: Api, fleet: Fleet) -> None:
    async def body(socket: Socket) -> None:
        history = [("system", "Be brief."), ("user", "Hello\nyou"), ("assistant", "Hi."), ("user", "Why?")]
        messages = [{"role": role, "content": content} for role, content in history]
        first = await ask(socket, conversation="new", messages=messages)
        assert (first["type"], len(first["conversation"])) == ("accepted", 32)
        claim = fleet.answer("w", "Be", "cause.")
        assert claim.memory is not None
        assert [(m.role, m.content) for m in claim.memory.seed_messages()] == history[:-1]
        assert [m.content for m in request_of(claim).messages] == ["Why?"]
        assert await socket.answer(first["job"]) == "Because."

        second = await ask(socket, conversation=first["conversation"], message="And?", params={"temperature": 0})
        assert second["conversation"] == first["conversation"]
        claim = fleet.answer("w", "So.", prompt=StoredPrompt([1], kept=1, retokenized_tokens=3, dropped_turns=1))
        assert claim.memory is not None
        assert [(turn.message, turn.answer) for turn in claim.memory.kept_turns()] == [("Why?", "Because.")]
        assert (request_of(claim).temperature, request_of(claim).same_prompt) == (0, False)
        assert await socket.answer(second["job"]) == "So."
        done = socket.of(second["job"])[-1]
        assert done["usage"] == {
            "prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0, "retokenized_tokens": 3
        }  # fmt: skip
        assert fleet.summary(first["conversation"]).title == "Hello"

    talk(api, body)


def test_the_title_is_the_first_line_of_the_first_message(api: Api, fleet: Fleet) -> None:
    async def body(socket: Socket) -> None:
        for message, title in [("\n  x" + "y" * 100 + "\nz", "x" + "y" * 79), (" \n", ""), ("Hi", "Hi")]:
            conversation = await begin(socket, fleet, message)
            assert fleet.summary(conversation).title == title

    talk(api, body)


def test_attach_names_the_conversation(api: Api, fleet: Fleet) -> None:
    async def body(socket: Socket) -> None:
        accepted = await ask(socket, conversation="new", message="one")
        async with connected(api.socket) as other:
            attached = await ask(other, type="attach", job=accepted["job"])
            assert (attached["type"], attached["conversation"]) == ("attached", accepted["conversation"])
        alone = await ask(socket, messages=[{"role": "user", "content": "alone"}])
        assert alone["conversation"] is None
        assert (await ask(socket, type="attach", job=alone["job"]))["conversation"] is None
        fleet.answer("w", "ONE"), fleet.answer("w", "ALONE")

    talk(api, body)


def test_one_answer_at_a_time(api: Api, fleet: Fleet) -> None:
    async def body(socket: Socket) -> None:
        accepted = await ask(socket, conversation="new", message="one")
        conversation = accepted["conversation"]
        assert await refused(socket, conversation=conversation, message="two") == "conversation_busy"
        assert await refused(socket, type="regenerate", conversation=conversation) == "conversation_busy"
        error = socket.frames[-1]
        assert (error["retryable"], error["retry_after_s"]) == (True, 1.0)
        await socket.send(type="cancel", job=accepted["job"])
        await socket.until("done", accepted["job"])
        assert (await ask(socket, conversation=conversation, message="two"))["type"] == "accepted"
        fleet.answer("w", "TWO")

    talk(api, body)


def test_what_is_not_there_and_what_does_not_fit_is_refused(api: Api, fleet: Fleet) -> None:
    async def body(socket: Socket) -> None:
        conversation = await begin(socket, fleet, "one")
        assert await refused(socket, conversation="none", message="two") == "conversation_not_found"
        assert await refused(socket, type="regenerate", conversation="none") == "conversation_not_found"
        assert await refused(socket, conversation=conversation, message="two", model="x") == "invalid_request"
        long = {"max_tokens": 4096}
        assert await refused(socket, conversation=conversation, message="two", params=long) == "out_of_range"
        assert await refused(socket, type="regenerate", conversation=conversation, params=long) == "out_of_range"
        assert await refused(socket, type="regenerate", conversation=conversation, turn=2) == "out_of_range"
        named = await ask(socket, conversation=conversation, message="two", model=MODEL)
        assert named["type"] == "accepted"
        fleet.answer("w", "TWO")
        empty = await ask(socket, conversation="new", message="one")
        fleet.answer("w", "x", finish="error")
        await socket.answer(empty["job"])
        assert await refused(socket, type="regenerate", conversation=empty["conversation"]) == "invalid_request"

    talk(api, body)


@pytest.mark.parametrize("turn", [None, 3, 2, 1])
def test_a_turn_is_answered_again(api: Api, fleet: Fleet, turn: int | None) -> None:
    async def body(socket: Socket) -> None:
        conversation = await begin(socket, fleet, "one", "two", "three")
        before = fleet.said(conversation)
        params = {"seed": 5, "max_tokens": 9}
        accepted = await ask(socket, type="regenerate", conversation=conversation, turn=turn, params=params)
        assert (accepted["type"], accepted["conversation"]) == ("accepted", conversation)
        claim = fleet.answer("w", "again")
        assert await socket.answer(accepted["job"]) == "again"
        number = turn or 3
        request = request_of(claim)
        assert [message.content for message in request.messages] == [before[number - 1][0]]
        assert (request.same_prompt, request.seed, request.max_tokens) == (True, 5, 9)
        assert claim.memory is not None
        assert (claim.memory.turn, len(claim.memory.turns)) == (number, number)
        assert fleet.said(conversation) == [*before[: number - 1], (before[number - 1][0], "again")]

    talk(api, body)


def test_an_edited_turn_forks_the_conversation(api: Api, fleet: Fleet) -> None:
    async def body(socket: Socket) -> None:
        conversation = await begin(socket, fleet, "one", "two", "three")
        accepted = await ask(socket, type="regenerate", conversation=conversation, turn=2, message="deux")
        claim = fleet.answer("w", "DEUX")
        assert await socket.answer(accepted["job"]) == "DEUX"
        assert ([m.content for m in request_of(claim).messages], request_of(claim).same_prompt) == (["deux"], False)
        assert fleet.said(conversation) == [("one", "ONE"), ("deux", "DEUX")]

    talk(api, body)


def test_the_same_frame_again_is_the_same_job(api: Api, fleet: Fleet) -> None:
    """Also while its own answer makes the conversation busy, and when what it was made from is gone."""

    async def body(socket: Socket) -> None:
        conversation = await begin(socket, fleet, "one", "two")
        frames: list[Frame] = [
            {"id": str(uuid.uuid4()), "conversation": "new", "message": "hello"},
            {"id": str(uuid.uuid4()), "conversation": conversation, "message": "three"},
            {"id": str(uuid.uuid4()), "type": "regenerate", "conversation": conversation, "turn": 3},
            {"id": str(uuid.uuid4()), "type": "regenerate", "conversation": conversation, "turn": 1, "message": "un"},
        ]
        accepted = []
        for frame in frames:
            accepted.append(await ask(socket, **frame))
            assert accepted[-1]["type"] == "accepted"
            again = await ask(socket, **frame)
            assert [again[name] for name in ("job", "conversation")] == [
                accepted[-1][name] for name in ("job", "conversation")
            ]
            fleet.answer("w", "answer")
        fleet.store.run(fleet.commands.delete_conversation("", conversation))
        async with connected(api.socket) as other:
            for frame, first in zip(frames, accepted, strict=True):
                again = await ask(other, **frame)
                assert (again["type"], again["job"]) == ("accepted", first["job"])
                assert await other.answer(first["job"]) == "answer"
                assert await refused(other, **{**frame, "params": {"seed": 1}}) == "id_conflict"

    talk(api, body)


def test_a_job_tells_its_conversation(api: Api, fleet: Fleet) -> None:
    async def body(socket: Socket) -> None:
        accepted = await ask(socket, conversation="new", message="one")
        async with httpx.AsyncClient(verify=False, base_url=api.http) as http:
            job = (await http.get(f"/v1/jobs/{accepted['job']}")).json()
            assert job["conversation"] == accepted["conversation"]
            fleet.answer("w", "ONE", prompt=StoredPrompt([1, 2], retokenized_tokens=1))
            job = (await http.get(f"/v1/jobs/{accepted['job']}")).json()
            assert (job["text"], job["usage"]["retokenized_tokens"]) == ("ONE", 1)

    talk(api, body)


def test_a_conversation_outlives_its_workers(
    make_settings: Callable[..., Settings], fleet_of: Callable[[Settings], Processes]
) -> None:
    """With real workers, one of which is killed in the middle of an answer."""
    fleet = fleet_of(make_settings())
    worker = fleet.worker(EKIDEN_TEST_STEP_S="0.02")
    api = fleet.api()

    async def body(socket: Socket) -> None:
        params = {"max_tokens": 60, "seed": 1}
        first = await ask(socket, conversation="new", message="one", params=params)
        conversation = first["conversation"]
        answers = [await socket.answer(first["job"])]
        second = await ask(socket, conversation=conversation, message="two", params=params)
        await socket.until("delta", second["job"])
        worker.end(signal.SIGKILL)
        fleet.worker(EKIDEN_TEST_STEP_S="0.002")
        answers.append(await socket.answer(second["job"]))
        assert "moved" in [frame["type"] for frame in socket.of(second["job"])]
        again = await ask(socket, type="regenerate", conversation=conversation, params=params)
        assert await socket.answer(again["job"]) == answers[1], "the same seed and prompt"
        async with httpx.AsyncClient(verify=False, base_url=api.http) as http:
            kept = (await http.get(f"/v1/conversations/{conversation}")).json()
        assert [(turn["message"], turn["answer"]) for turn in kept["turns"]] == [
            ("one", answers[0]),
            ("two", answers[1]),
        ]
        one, two = [turn["usage"]["prompt_tokens"] for turn in kept["turns"]]
        assert two > one + 60, "the second prompt holds the first, and its answer"

    talk(api, body)
