"""Every kind of bad frame is refused with its code and one sentence."""

import json
from typing import Any

import pytest

from ekiden.errors import EkidenError
from ekiden.protocol import Chat, Message, Regenerate
from ekiden.validation import MAX_FRAME_BYTES, MAX_TITLE_LENGTH, frame_id, parse_frame, parse_title, resolve

HELLO = [{"role": "user", "content": "Hi"}]


def chat(**fields: Any) -> str:
    return json.dumps({"type": "chat", "id": "x", "messages": HELLO, **fields})


def bare(**fields: Any) -> str:
    """A chat without messages."""
    return json.dumps({"type": "chat", "id": "x", **fields})


def regenerate(**fields: Any) -> str:
    return json.dumps({"type": "regenerate", "id": "x", "conversation": "v1", **fields})


BAD: list[tuple[str, str, str]] = [
    ("not JSON", "hello", "invalid_frame"),
    ("empty", "", "invalid_frame"),
    ("an array", "[1]", "invalid_frame"),
    ("deep", '{"type":"ping","x":' + "[" * 600 + "]" * 600 + "}", "invalid_request"),
    ("too deep", "[" * 100_000, "invalid_frame"),
    ("a string", '"chat"', "invalid_frame"),
    ("null", "null", "invalid_frame"),
    ("truncated", '{"type":"chat"', "invalid_frame"),
    ("deep", "[" * 200_000, "invalid_frame"),
    ("no type", "{}", "invalid_frame"),
    ("unknown type", '{"type":"chatt"}', "invalid_frame"),
    ("wrong type of type", '{"type":5}', "invalid_frame"),
    ("unknown field", chat(mood="good"), "invalid_request"),
    ("unknown param", chat(params={"heat": 1}), "invalid_request"),
    ("unknown message field", chat(messages=[{"role": "user", "content": "a", "name": "b"}]), "invalid_request"),
    ("no messages", json.dumps({"type": "chat"}), "invalid_request"),
    ("empty messages", chat(messages=[]), "invalid_request"),
    ("messages not a list", chat(messages="Hi"), "invalid_request"),
    ("message not an object", chat(messages=["Hi"]), "invalid_request"),
    ("last role not user", chat(messages=[*HELLO, {"role": "assistant", "content": "x"}]), "invalid_request"),
    ("unknown role", chat(messages=[{"role": "tool", "content": "x"}, *HELLO]), "invalid_request"),
    ("no role", chat(messages=[{"content": "x"}]), "invalid_request"),
    ("content a number", chat(messages=[{"role": "user", "content": 5}]), "invalid_request"),
    ("content null", chat(messages=[{"role": "user", "content": None}]), "invalid_request"),
    ("content parts", chat(messages=[{"role": "user", "content": [{"type": "text"}]}]), "invalid_request"),
    ("id a number", chat(id=5), "invalid_request"),
    ("id empty", chat(id=""), "invalid_request"),
    ("id long", chat(id="x" * 129), "invalid_request"),
    ("bool for int", chat(params={"max_tokens": True}), "invalid_request"),
    ("string for number", chat(params={"temperature": "hot"}), "invalid_request"),
    ("float for int", chat(params={"top_k": 1.5}), "invalid_request"),
    ("stop a string", chat(params={"stop": "###"}), "invalid_request"),
    ("on_disconnect", chat(on_disconnect="explode"), "invalid_request"),
    ("lone surrogate", '{"type":"chat","messages":[{"role":"user","content":"\\ud800"}]}', "invalid_request"),
    ("max_tokens 0", chat(params={"max_tokens": 0}), "out_of_range"),
    ("max_tokens huge", chat(params={"max_tokens": 10**30}), "out_of_range"),
    ("temperature -1", chat(params={"temperature": -1}), "out_of_range"),
    ("temperature 2.1", chat(params={"temperature": 2.1}), "out_of_range"),
    ("temperature NaN", chat(params={"temperature": float("nan")}), "out_of_range"),
    ("temperature Infinity", chat(params={"temperature": float("inf")}), "out_of_range"),
    ("temperature 1e999", chat(params={"temperature": 0}).replace(": 0}", ": 1e999}"), "out_of_range"),
    ("top_p 0", chat(params={"top_p": 0}), "out_of_range"),
    ("top_p -Infinity", chat(params={"top_p": float("-inf")}), "out_of_range"),
    ("top_k -1", chat(params={"top_k": -1}), "out_of_range"),
    ("max_tokens NaN", chat(params={"max_tokens": float("nan")}), "out_of_range"),
    ("min_p 1.5", chat(params={"min_p": 1.5}), "out_of_range"),
    ("repetition_penalty 0", chat(params={"repetition_penalty": 0}), "out_of_range"),
    ("seed -1", chat(params={"seed": -1}), "out_of_range"),
    ("seed 2^63", chat(params={"seed": 2**63}), "out_of_range"),
    ("many stops", chat(params={"stop": ["x"] * 17}), "out_of_range"),
    ("empty stop", chat(params={"stop": [""]}), "out_of_range"),
    ("long stop", chat(params={"stop": ["x" * 257]}), "out_of_range"),
    ("priority", chat(priority=11), "out_of_range"),
    ("cursor", json.dumps({"type": "attach", "job": "j", "cursor": -1}), "out_of_range"),
    ("no job", json.dumps({"type": "cancel"}), "invalid_request"),
    ("nothing for a new conversation", bare(conversation="new"), "invalid_request"),
    ("nothing for a conversation", bare(conversation="v1"), "invalid_request"),
    ("message without conversation", bare(message="Hi"), "invalid_request"),
    ("message and messages", chat(message="Hi"), "invalid_request"),
    ("message and messages for a new one", chat(message="Hi", conversation="new"), "invalid_request"),
    ("messages for a conversation", chat(conversation="v1"), "invalid_request"),
    ("message a list", bare(conversation="v1", message=HELLO), "invalid_request"),
    ("no one to answer", chat(conversation="new", messages=[{"role": "system", "content": "x"}]), "invalid_request"),
    ("conversation empty", bare(conversation="", message="Hi"), "invalid_request"),
    ("conversation long", bare(conversation="x" * 129, message="Hi"), "invalid_request"),
    ("conversation a number", bare(conversation=5, message="Hi"), "invalid_request"),
    ("param of a conversation", bare(conversation="v1", message="Hi", params={"top_p": 2}), "out_of_range"),
    ("regenerate nothing", json.dumps({"type": "regenerate"}), "invalid_request"),
    ("regenerate empty", regenerate(conversation=""), "invalid_request"),
    ("regenerate long", regenerate(conversation="x" * 129), "invalid_request"),
    ("regenerate unknown field", regenerate(model="m"), "invalid_request"),
    ("regenerate turn 0", regenerate(turn=0), "out_of_range"),
    ("regenerate turn -1", regenerate(turn=-1), "out_of_range"),
    ("regenerate turn huge", regenerate(turn=10**30), "out_of_range"),
    ("regenerate turn NaN", regenerate(turn=float("nan")), "out_of_range"),
    ("regenerate turn a text", regenerate(turn="1"), "invalid_request"),
    ("regenerate param", regenerate(params={"temperature": 3}), "out_of_range"),
    ("park no job", json.dumps({"type": "park"}), "invalid_request"),
    ("resume a number", json.dumps({"type": "resume", "job": 5}), "invalid_request"),
    ("too large", chat(messages=[{"role": "user", "content": "x" * MAX_FRAME_BYTES}]), "frame_too_large"),
]


@pytest.mark.parametrize(("text", "code"), [(text, code) for _, text, code in BAD], ids=[name for name, _, _ in BAD])
def test_a_bad_frame_is_refused(text: str, code: str) -> None:
    with pytest.raises(EkidenError) as caught:
        parse_frame(text)
    assert caught.value.code == code
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "`" not in sentence
    assert "$" not in sentence


def test_the_message_names_the_field() -> None:
    for text, name in [(chat(params={"top_p": 2}), "params.top_p"), (chat(params={"top_p": "a"}), "params.top_p")]:
        with pytest.raises(EkidenError, match=name):
            parse_frame(text)
    with pytest.raises(EkidenError, match=r"params\.temperature must be a finite number"):
        parse_frame(chat(params={"temperature": float("nan")}))
    with pytest.raises(EkidenError, match=r"turn must be a finite number"):
        parse_frame(regenerate(turn=float("nan")))


def test_the_id_of_a_refused_frame_is_found_where_there_is_one() -> None:
    assert frame_id(chat(priority=99)) == "x"
    assert [frame_id(text) for text in ("no", "[1]", "{}", '{"id":5}', '{"id":"\\ud800"}', "[" * 9999)] == [None] * 6


@pytest.mark.parametrize("content", ["", " ", "\n\t", "\0", "😀", "<|im_end|>"])
def test_any_text_is_valid_content(content: str) -> None:
    frame = parse_frame(chat(messages=[{"role": "user", "content": content}]))
    assert isinstance(frame, Chat)
    assert frame.messages is not None
    assert frame.messages[0].content == content


def test_defaults_are_resolved_and_given_values_kept() -> None:
    plain = parse_frame(chat())
    given = parse_frame(chat(params={"temperature": 0, "top_k": 7, "seed": 9, "max_tokens": 3, "stop": ["a"]}))
    assert isinstance(plain, Chat)
    assert isinstance(given, Chat)
    messages = [Message("user", "Hi")]
    request = resolve(messages, plain.params, "m", 5)
    assert (request.temperature, request.top_p, request.seed, request.max_tokens) == (0.7, 0.9, 5, None)
    request = resolve(messages, given.params, "m", 5, same_prompt=True)
    assert (request.temperature, request.top_k, request.seed, request.max_tokens) == (0, 7, 9, 3)
    assert request.stop == ["a"]
    assert (request.messages, request.model, request.same_prompt) == (messages, "m", True)


@pytest.mark.parametrize(
    "text",
    [
        chat(conversation="new"),
        bare(conversation="new", message=""),
        bare(conversation="v1", message="Hi"),
        bare(conversation="x" * 128, message="Hi", model="m"),
        regenerate(),
        regenerate(turn=1, message="", params={"seed": 1}),
    ],
)
def test_a_frame_of_a_conversation_is_taken(text: str) -> None:
    assert isinstance(parse_frame(text), Chat | Regenerate)


@pytest.mark.parametrize("title", ["x", "é" * MAX_TITLE_LENGTH, " a "])
def test_a_title_is_taken_as_it_is(title: str) -> None:
    assert parse_title(json.dumps({"title": title}).encode()) == title
