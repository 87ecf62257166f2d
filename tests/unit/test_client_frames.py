"""Which frames the client makes of what an application asks."""

import json
from typing import Any

import pytest

from ekiden.client import frames
from ekiden.client.frames import Messages
from ekiden.errors import FrameTooLarge, InvalidRequest, OutOfRange
from ekiden.protocol import Message, Params
from ekiden.validation import MAX_FRAME_BYTES


def chat(messages: Messages, conversation: str | None = None, params: Params | None = None) -> dict[str, Any]:
    """What the frame of a chat says beside its type and id."""
    text = frames.chat(
        "r1",
        messages,
        conversation=conversation,
        params=params or Params(),
        model=None,
        priority=0,
        on_disconnect="keep",
    )
    frame: dict[str, Any] = json.loads(text)
    assert (frame.pop("type"), frame.pop("id")) == ("chat", "r1")
    if params is None:
        assert frame.pop("params") == {}
    return frame


def test_a_chat_sends_its_messages() -> None:
    said = {"role": "user", "content": "Hi"}
    assert chat("Hi") == {"messages": [said]}
    assert chat([Message("system", "Be brief"), said]) == {
        "messages": [{"role": "system", "content": "Be brief"}, said]
    }
    assert chat("Hi", params=frames.params("###", {"seed": 7})) == {
        "messages": [said],
        "params": {"seed": 7, "stop": ["###"]},
    }


def test_a_new_conversation_is_seeded_and_a_kept_one_gets_its_next_message() -> None:
    said = {"role": "user", "content": "Hi"}
    assert chat("Hi", "new") == {"conversation": "new", "messages": [said]}
    assert chat([said], "new") == {"conversation": "new", "messages": [said]}
    assert chat("And then?", "c1") == {"conversation": "c1", "message": "And then?"}
    assert chat("", "c1") == {"conversation": "c1", "message": ""}
    with pytest.raises(InvalidRequest, match="one text"):
        chat([said], "c1")


def test_a_turn_is_asked_again_as_it_was_or_with_another_message() -> None:
    def regenerate(turn: int | None = None, message: str | None = None) -> Any:
        return json.loads(frames.regenerate("r1", "c1", turn=turn, message=message, params=Params(seed=7)))

    last = {"type": "regenerate", "id": "r1", "conversation": "c1", "params": {"seed": 7}}
    assert regenerate() == last
    assert regenerate(2, "Or?") == {**last, "turn": 2, "message": "Or?"}


@pytest.mark.parametrize(
    "message", [{"role": "user"}, {"role": "user", "content": 5}, {"content": "x", "from": "y"}, {}]
)
def test_a_message_that_is_none_is_refused(message: Any) -> None:
    with pytest.raises(InvalidRequest, match="a role and a content"):
        chat([message])


@pytest.mark.parametrize(("text", "kind"), [("\udc80", InvalidRequest), ("x" * MAX_FRAME_BYTES, FrameTooLarge)])
def test_what_the_server_could_not_read_is_refused_here(text: str, kind: type[Exception]) -> None:
    for conversation in (None, "new", "c1"):
        with pytest.raises(kind):
            chat(text, conversation)
    with pytest.raises(kind):
        frames.regenerate("r1", "c1", turn=None, message=text, params=Params())


def test_a_number_that_json_cannot_hold_is_refused_here() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(OutOfRange, match="temperature"):
            frames.params((), {"temperature": value})
