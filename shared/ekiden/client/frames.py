"""What an application asks for, as frames the server can read. Knows no network."""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

from ekiden.errors import FrameTooLarge, InvalidRequest, OutOfRange
from ekiden.protocol import Chat, ClientFrame, Message, OnDisconnect, Params, Regenerate, encode
from ekiden.validation import MAX_FRAME_BYTES, NEW_CONVERSATION

Messages = str | Sequence[Message | Mapping[str, str]]


class Sampling(TypedDict, total=False):
    """How to generate: the numbers of `protocol.Params`."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None


def chat(
    request_id: str,
    messages: Messages,
    *,
    conversation: str | None,
    params: Params,
    model: str | None,
    priority: int,
    on_disconnect: OnDisconnect,
) -> str:
    """The frame that asks for an answer: to all of `messages`, or to the next message of a kept conversation.

    Raises InvalidRequest and FrameTooLarge.
    """
    message = None
    if conversation not in (None, NEW_CONVERSATION):
        if not isinstance(messages, str):
            raise InvalidRequest("A kept conversation takes one text: its next message.")
        message = messages
    frame = Chat(
        id=request_id,
        messages=None if message is not None else _messages(messages),
        conversation=conversation,
        message=message,
        params=params,
        model=model,
        priority=priority,
        on_disconnect=on_disconnect,
    )
    return _checked(frame)


def regenerate(request_id: str, conversation: str, *, turn: int | None, message: str | None, params: Params) -> str:
    """The frame that asks for another answer to a turn. Raises InvalidRequest and FrameTooLarge."""
    return _checked(Regenerate(id=request_id, conversation=conversation, turn=turn, message=message, params=params))


def params(stop: str | Sequence[str], sampling: Sampling) -> Params:
    """How to generate. Raises OutOfRange for what is no JSON number."""
    for name, value in sampling.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise OutOfRange(f"params.{name} must be a finite number.")  # JSON would make it null, the default
    return Params(stop=[stop] if isinstance(stop, str) else list(stop) or None, **sampling)


def _messages(given: Messages) -> list[Message]:
    if isinstance(given, str):
        return [Message("user", given)]
    return [each if isinstance(each, Message) else _message(each) for each in given]


def _message(given: Mapping[str, str]) -> Message:
    if given.keys() != {"role", "content"} or not all(isinstance(value, str) for value in given.values()):
        raise InvalidRequest("A message has a role and a content, both texts, and nothing else.")
    return Message(given["role"], given["content"])


def _checked(frame: ClientFrame) -> str:
    """The frame's text, if the server could read it."""
    try:
        text = encode(frame)
    except UnicodeEncodeError:
        raise InvalidRequest("The messages are not valid Unicode text.") from None
    if len(text) > MAX_FRAME_BYTES or len(text.encode()) > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"A frame may have at most {MAX_FRAME_BYTES:,} bytes.")
    return text
