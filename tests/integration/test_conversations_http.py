"""/v1/conversations of a real API process, over conversations that were made through the store."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from ekiden.jobs import State
from ekiden.memory import StoredPrompt, encode_messages
from ekiden.protocol import Message
from ekiden.settings import Settings, load_settings
from ekiden.store.types import FirstTurn, NextTurn, TurnAgain
from tests.support import http
from tests.support.processes import Api, processes
from tests.support.store_fleet import MODEL, Fleet, asked
from tests.support.valkey import ValkeyServer

ADA = {"Authorization": "Bearer key-of-ada"}
BOB = {"Authorization": "Bearer key-of-bob"}
NONE = "0" * 32


@pytest.fixture(scope="module")
def settings(valkey: ValkeyServer) -> Settings:
    return load_settings(redis_url=valkey.url, key_prefix=f"test-{uuid.uuid4().hex[:12]}", model=MODEL)


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with processes(settings, tmp_path_factory.mktemp("conversations")) as group:
        yield group.api(EKIDEN_MODEL=MODEL, EKIDEN_API_KEYS="ada:key-of-ada,bob:key-of-bob")


@pytest.fixture
def fleet(settings: Settings) -> Iterator[Fleet]:
    """The store with a worker named w; Ada has no conversation."""
    with closing(Fleet(settings)) as fleet:
        fleet.worker("w")
        yield fleet
        for summary in fleet.store.run(fleet.commands.list_conversations("ada", 1000)).conversations:
            fleet.store.run(fleet.commands.delete_conversation("ada", summary.id))


def made(fleet: Fleet, *messages: str) -> str:
    """A conversation of Ada's."""
    conversation = uuid.uuid4().hex
    fleet.talk("w", *messages, conversation=conversation, user="ada")
    return conversation


def call(api: Api, method: str, path: str = "", **options: Any) -> httpx.Response:
    return http.request(method, f"{api.http}/v1/conversations{path}", headers=options.pop("headers", ADA), **options)


def code_of(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert set(body["error"]) == {"code", "message", "retryable"}
    assert body["error"]["message"].endswith(".")
    return response.status_code, str(body["error"]["code"])


def test_a_conversation_is_shown_with_what_it_began_with_and_its_turns(api: Api, fleet: Fleet) -> None:
    conversation = uuid.uuid4().hex
    seed = [Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi.")]
    place = FirstTurn(conversation, encode_messages(seed), "Hello")
    fleet.submit(uuid.uuid4().hex, "ada", place=place, request=asked("Why?"))
    fleet.answer("w", "Be", "cause.")
    job = uuid.uuid4().hex
    fleet.submit(job, "ada", place=NextTurn(conversation), request=asked("And?"))
    fleet.answer("w", "So", prompt=StoredPrompt([1], 2, 2, 1, 3), finish="cancelled")
    running = uuid.uuid4().hex
    fleet.submit(running, "ada", place=NextTurn(conversation), request=asked("More?"))

    shown = call(api, "GET", f"/{conversation}").json()
    assert list(shown) == [
        "id", "object", "title", "model", "created_ms", "updated_ms", "turn_count", "busy", "messages", "turns",
        "pending",
    ]  # fmt: skip
    assert [shown[name] for name in ("id", "object", "title", "model", "turn_count", "busy")] == [
        conversation, "conversation", "Hello", MODEL, 2, running,
    ]  # fmt: skip
    assert shown["messages"] == [{"role": message.role, "content": message.content} for message in seed]
    assert shown["pending"] == {"turn": 3, "message": "More?"}
    first, second = shown["turns"]
    assert [first[name] for name in ("turn", "message", "answer", "finish_reason")] == [1, "Why?", "Because.", "stop"]
    assert second == {
        "turn": 2,
        "message": "And?",
        "answer": "So",
        "finish_reason": "cancelled",
        "job": job,
        "dropped_turns": 1,
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cached_tokens": 0, "retokenized_tokens": 3},
        "ended_ms": second["ended_ms"],
    }
    assert shown["created_ms"] <= first["ended_ms"] <= second["ended_ms"] <= shown["updated_ms"]


def test_the_turn_that_is_answered_anew_is_shown_while_it_is(api: Api, fleet: Fleet) -> None:
    conversation = made(fleet, "one", "two")
    kept = fleet.conversation(conversation, "ada")
    assert kept is not None
    place = TurnAgain(conversation, 1, kept.summary.version, same_prompt=False)
    fleet.submit(uuid.uuid4().hex, "ada", place=place, request=asked("other"))
    assert call(api, "GET", f"/{conversation}").json()["pending"] == {"turn": 1, "message": "other"}
    fleet.answer("w", "Yes.")
    shown = call(api, "GET", f"/{conversation}").json()
    assert (shown["pending"], [turn["message"] for turn in shown["turns"]]) == (None, ["other"])


def test_a_long_conversation_is_read_from_its_end_on(api: Api, fleet: Fleet) -> None:
    conversation = made(fleet, *(f"m{number}" for number in range(1, 206)))

    def numbers(**params: int) -> list[int]:
        shown = call(api, "GET", f"/{conversation}", params=params).json()
        assert shown["turn_count"] == 205
        assert [turn["answer"] for turn in shown["turns"]] == [f"M{turn['turn']}" for turn in shown["turns"]]
        return [turn["turn"] for turn in shown["turns"]]

    assert numbers() == [*range(106, 206)]
    assert numbers(before=106) == [*range(6, 106)]
    assert numbers(before=6) == [*range(1, 6)]
    assert numbers(before=1) == []
    assert numbers(before=10**6) == numbers()


def test_conversations_are_listed_page_by_page_the_newest_change_first(api: Api, fleet: Fleet) -> None:
    assert call(api, "GET").json() == {"data": [], "next": None, "object": "list"}
    names = [made(fleet, "one") for _ in range(5)]
    for at, name in enumerate(names):
        fleet.store.redis.zadd(fleet.store.keys.conversations("ada"), {name: 1_900_000_000_000 + at // 2})
    whole = call(api, "GET").json()
    assert {entry["id"] for entry in whole["data"]} == set(names)
    assert whole["next"] is None
    assert "messages" not in whole["data"][0]

    found, cursor = [], None
    for _ in range(3):
        page = call(api, "GET", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        found += page["data"]
        cursor = page["next"]
    assert found == whole["data"]
    assert cursor is None
    assert call(api, "GET", headers=BOB).json()["data"] == []


def test_a_title_is_changed(api: Api, fleet: Fleet) -> None:
    conversation = made(fleet, "one")
    for title in ("Grüße 👋", "x" * 200):
        response = call(api, "PATCH", f"/{conversation}", json={"title": title})
        assert (response.status_code, response.json()["title"]) == (200, title)
        assert call(api, "GET", f"/{conversation}").json()["title"] == title
        assert call(api, "GET").json()["data"] == [response.json()]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_request"),
        (b"title", "invalid_request"),
        (b"[]", "invalid_request"),
        (b"{}", "invalid_request"),
        (b'{"title": 5}', "invalid_request"),
        (b'{"title": null}', "invalid_request"),
        (b'{"title": ""}', "invalid_request"),
        (b'{"title": " \\n"}', "invalid_request"),
        (b'{"title": "a\\n"}', "invalid_request"),
        (b'{"title": "a\\u001b[2J"}', "invalid_request"),
        (b'{"title": "\\ud800"}', "invalid_request"),
        (b'{"title": "\xff"}', "invalid_request"),
        (b'{"title": "%s"}' % (b"x" * 201), "invalid_request"),
        (b'{"title": "x", "model": "y"}', "invalid_request"),
        (b'{"title": "%s"}' % (b"x" * 20_000), "frame_too_large"),
    ],
)
def test_a_bad_title_is_refused_and_changes_nothing(api: Api, fleet: Fleet, body: bytes, code: str) -> None:
    conversation = made(fleet, "one")
    assert code_of(call(api, "PATCH", f"/{conversation}", content=body))[1] == code
    assert call(api, "GET", f"/{conversation}").json()["title"] == "one"


def test_a_deleted_conversation_is_gone_and_its_job_cancelled(api: Api, fleet: Fleet) -> None:
    conversation, job = made(fleet, "one"), uuid.uuid4().hex
    fleet.submit(job, "ada", place=NextTurn(conversation), request=asked("two"))
    response = call(api, "DELETE", f"/{conversation}")
    assert (response.status_code, response.json()) == (
        200,
        {"id": conversation, "object": "conversation", "deleted": True},
    )
    assert fleet.view(job, user="ada").state is State.CANCELLED
    for method in ("GET", "DELETE"):
        assert code_of(call(api, method, f"/{conversation}")) == (404, "conversation_not_found")
    assert call(api, "GET").json()["data"] == []


def test_another_users_conversation_is_as_one_that_is_not_there(api: Api, fleet: Fleet) -> None:
    conversation = made(fleet, "one")
    for method, body in [("GET", None), ("PATCH", {"title": "Mine"}), ("DELETE", None)]:
        answers = [call(api, method, f"/{name}", headers=BOB, json=body) for name in (conversation, NONE)]
        assert answers[0].content == answers[1].content
        assert code_of(answers[0]) == (404, "conversation_not_found")
    assert call(api, "GET", f"/{conversation}").json()["title"] == "one"


@pytest.mark.parametrize("name", ["*", "%00", "{0}:turns", "{0}%0A", "ä", "x" * 5000])
def test_a_name_that_is_no_id_is_a_conversation_that_is_not_there(api: Api, fleet: Fleet, name: str) -> None:
    conversation = made(fleet, "one")
    for method, body in [("GET", None), ("PATCH", {"title": "Mine"}), ("DELETE", None)]:
        response = call(api, method, f"/{name.format(conversation)}", json=body)
        assert code_of(response) == (404, "conversation_not_found")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_key_is_needed(api: Api, method: str) -> None:
    for path in ("", f"/{NONE}") if method == "GET" else (f"/{NONE}",):
        assert code_of(call(api, method, path, headers={})) == (401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("?limit=0", 400, "out_of_range"),
        ("?limit=101", 400, "out_of_range"),
        ("?limit=many", 400, "invalid_request"),
        ("?cursor=", 400, "invalid_request"),
        ("?cursor=5", 400, "invalid_request"),
        (f"?cursor=٥-{NONE}", 400, "invalid_request"),
        (f"/{NONE}?before=0", 400, "out_of_range"),
        (f"/{NONE}/turns", 404, "not_found"),
        ("/", 404, "not_found"),
    ],
)
def test_every_refusal_has_a_code(api: Api, path: str, status: int, code: str) -> None:
    assert code_of(call(api, "GET", path)) == (status, code)
