"""Parses client frames and checks what needs no tokenizer; a refusal is an EkidenError with one helpful sentence."""

import json
import math
import re
from collections.abc import Callable
from typing import Annotated, NoReturn

import msgspec

from ekiden.errors import FrameTooLarge, InvalidFrame, InvalidRequest, OutOfRange
from ekiden.protocol import (
    AnyClientFrame,
    Attach,
    Chat,
    JobRequest,
    Message,
    Params,
    Regenerate,
    decode_client,
)

MAX_FRAME_BYTES = 1 << 20
MAX_ID_LENGTH = 128
MAX_TITLE_LENGTH = 200
MAX_STOPS = 16
MAX_STOP_LENGTH = 256
MAX_REASON_LENGTH = 200
MAX_CURSOR = 1 << 53
PRIORITIES = range(-10, 11)
ROLES = ("system", "user", "assistant")

# name → (range in words, test)
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "max_tokens": ("between 1 and 2^31 − 1", lambda v: 1 <= v < 1 << 31),
    "temperature": ("between 0 and 2", lambda v: 0 <= v <= 2),
    "top_p": ("above 0 and at most 1", lambda v: 0 < v <= 1),
    "top_k": ("between 0 and 1,000,000", lambda v: 0 <= v <= 1_000_000),
    "min_p": ("between 0 and 1", lambda v: 0 <= v <= 1),
    "repetition_penalty": ("above 0 and at most 10", lambda v: 0 < v <= 10),
    "seed": ("between 0 and 2^63 − 1", lambda v: 0 <= v < 1 << 63),
}

DEFAULTS: dict[str, float] = {
    "temperature": 0.7,
    "top_p": 0.9,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}

NEW_CONVERSATION = "new"
"""What stands in place of a conversation's id when a chat begins one."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

_TYPES = "chat, regenerate, cancel, attach, park, resume or ping"


def parse_frame(text: str) -> AnyClientFrame:
    """A checked frame. Raises EkidenError; `frame_id` finds the id to echo then."""
    if len(text) > MAX_FRAME_BYTES or len(text.encode("utf-8", "surrogatepass")) > MAX_FRAME_BYTES:
        raise FrameTooLarge(f"A frame may have at most {MAX_FRAME_BYTES:,} bytes.")
    try:
        frame = decode_client(text)
    except msgspec.ValidationError as error:
        _refuse_shape(text, str(error))
    except (msgspec.DecodeError, UnicodeEncodeError):
        _refuse_syntax(text)
    _check(frame)
    return frame


def frame_id(text: str) -> str | None:
    """The `id` of a frame that was refused, where one can be read."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = frame.get("id") if isinstance(frame, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= MAX_ID_LENGTH and _is_text(found) else None


def parse_title(body: bytes) -> str:
    """The title in `{"title": …}`. Raises InvalidRequest."""
    try:
        title = _renaming_decoder.decode(body).title
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{_readable(str(error))}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest("The body must be a JSON object with a title.") from None
    if not title.strip() or _CONTROL.search(title):
        raise InvalidRequest("title must be one line of text without control characters, and not blank.")
    return title


def resolve(messages: list[Message], params: Params, model: str, seed: int, *, same_prompt: bool = False) -> JobRequest:
    """What a worker needs of checked messages and params; `seed` is used when the client gave none."""

    def value(name: str) -> float:
        given = getattr(params, name)
        return DEFAULTS[name] if given is None else given

    return JobRequest(
        messages=messages,
        model=model,
        max_tokens=params.max_tokens,
        temperature=value("temperature"),
        top_p=value("top_p"),
        top_k=int(value("top_k")),
        min_p=value("min_p"),
        repetition_penalty=value("repetition_penalty"),
        seed=seed if params.seed is None else params.seed,
        stop=params.stop or [],
        same_prompt=same_prompt,
    )


class _Renaming(msgspec.Struct, forbid_unknown_fields=True):
    title: Annotated[str, msgspec.Meta(max_length=MAX_TITLE_LENGTH)]


_renaming_decoder = msgspec.json.Decoder(_Renaming)


def _check(frame: AnyClientFrame) -> None:
    if frame.id is not None and not 0 < len(frame.id) <= MAX_ID_LENGTH:
        raise InvalidRequest(f"id must have 1 to {MAX_ID_LENGTH} characters.")
    if isinstance(frame, Chat):
        _check_chat(frame)
    elif isinstance(frame, Attach):
        if not 0 <= frame.cursor <= MAX_CURSOR:
            raise OutOfRange("cursor must be between 0 and 2^53.")
    elif isinstance(frame, Regenerate):
        _check_conversation_id(frame.conversation)
        _check_params(frame.params)
        if frame.turn is not None and not 1 <= frame.turn <= MAX_CURSOR:
            raise OutOfRange("turn must be between 1 and 2^53.")


def _check_chat(chat: Chat) -> None:
    if chat.conversation is not None:
        _check_conversation_id(chat.conversation)
    if chat.message is None:
        _check_messages(chat.messages)
    if chat.messages is not None:
        if chat.message is not None:
            raise InvalidRequest("Send messages or message, not both.")
        if chat.conversation not in (None, NEW_CONVERSATION):
            raise InvalidRequest("A conversation goes on with message, not with messages.")
    elif chat.conversation is None:
        raise InvalidRequest("message belongs to a conversation; without one, send messages.")
    _check_params(chat.params)
    check_priority(chat.priority)


def check_priority(priority: int) -> None:
    """Raise OutOfRange for one that no job can have."""
    if priority not in PRIORITIES:
        raise OutOfRange(f"priority must be between {PRIORITIES[0]} and {PRIORITIES[-1]}.")


def _check_conversation_id(conversation: str) -> None:
    if not 0 < len(conversation) <= MAX_ID_LENGTH:
        raise InvalidRequest(f"conversation must have 1 to {MAX_ID_LENGTH} characters.")


def _check_messages(messages: list[Message] | None) -> None:
    if messages is None:
        raise InvalidRequest("messages is missing.")
    if not messages:
        raise InvalidRequest("messages must hold at least one message.")
    for number, message in enumerate(messages):
        if message.role not in ROLES:
            raise InvalidRequest(f"messages[{number}].role must be {', '.join(ROLES[:-1])} or {ROLES[-1]}.")
    if messages[-1].role != "user":
        raise InvalidRequest("The last message must be the user's.")


def _check_params(params: Params) -> None:
    for name, (words, fits) in RANGES.items():
        value = getattr(params, name)
        if value is not None and not (math.isfinite(value) and fits(value)):
            raise OutOfRange(f"params.{name} must be {words}.")
    stop = params.stop or []
    if len(stop) > MAX_STOPS or not all(0 < len(sequence) <= MAX_STOP_LENGTH for sequence in stop):
        raise OutOfRange(f"params.stop may hold up to {MAX_STOPS} sequences of 1 to {MAX_STOP_LENGTH} characters each.")


def _refuse_shape(text: str, reason: str) -> NoReturn:
    """The frame is JSON, but not what it should be: find out in which way."""
    if "at `$.type`" in reason or "missing required field `type`" in reason:
        raise InvalidFrame(f"type must be {_TYPES}.")
    if reason.startswith("Expected `object`") and " at " not in reason:
        raise InvalidFrame("A frame must be a JSON object.")
    if reason.startswith(("Number out of range", "Integer")):
        path = re.search(r"`\$\.?(.*)`", reason)
        raise OutOfRange(f"{path.group(1) if path else 'A number'} is out of range.")
    _refuse_numbers(text)
    raise InvalidRequest(f"{_readable(reason)}.")


def _refuse_syntax(text: str) -> NoReturn:
    """Not JSON; but where only a number or a character is not, say that."""
    _refuse_numbers(text)
    if r"\ud" in text.lower() and _is_object(text):
        raise InvalidRequest("A text of the frame holds half a surrogate pair, which is no character.")
    raise InvalidFrame("A frame must be a JSON object.")


def _refuse_numbers(text: str) -> None:
    """Raise OutOfRange when a number of the frame is NaN or infinite, which is no JSON, or too large to be one."""
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return
    fields: list[tuple[str, object]] = []
    if isinstance(frame, dict):
        fields = [(name, frame.get(name)) for name in ("priority", "cursor", "turn")]
        if isinstance(params := frame.get("params"), dict):
            fields += [(f"params.{name}", params.get(name)) for name in RANGES]
    for path, value in fields:
        if isinstance(value, float) and not math.isfinite(value):
            raise OutOfRange(f"{path} must be a finite number.")


def _readable(reason: str) -> str:
    """msgspec's sentence, with `$.params.top_p` as params.top_p."""
    words = re.sub(r" - at `\$\.?([^`]*)`", r" at \1", reason).replace("`", "")
    # It names fields as the client spelled them, which may be a megabyte.
    return words if len(words) <= MAX_REASON_LENGTH else f"{words[:MAX_REASON_LENGTH]}…"


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
