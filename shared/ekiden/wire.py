"""What the store publishes to API replicas and what lies in a token log: msgpack, positional, never seen by clients."""

from typing import NamedTuple

import msgspec


class Record(NamedTuple):
    """One entry of a token log: a generated id and text(n) − text(n−1)."""

    token_id: int
    text: str


class Frame(msgspec.Struct, frozen=True, array_like=True, tag_field="k"):
    """Base of the frames a replica receives; on the wire: [kind, job, …]."""

    job: str


class StartedFrame(Frame, frozen=True, array_like=True, tag="s"):
    """The first attempt has its prompt."""

    attempt: int
    dropped_turns: int


class MovedFrame(Frame, frozen=True, array_like=True, tag="m"):
    """Another attempt was claimed."""

    attempt: int


class DeltaFrame(Frame, frozen=True, array_like=True, tag="d"):
    """New log records; `start` is the number of records before them."""

    attempt: int
    start: int
    records: list[Record]


class ChangedFrame(Frame, frozen=True, array_like=True, tag="c"):
    """The job was parked or resumed: a snapshot tells."""


class EndedFrame(Frame, frozen=True, array_like=True, tag="e"):
    """The one terminal event. `finish_reason` is set for done and cancelled, `code` and `message` for error."""

    state: str
    attempt: int
    cursor: int
    finish_reason: str | None
    code: str | None
    message: str | None
    prompt_tokens: int
    cached_tokens: int
    queue_ms: int | None
    ttft_ms: int | None
    total_ms: int | None
    retokenized_tokens: int = 0


AnyFrame = StartedFrame | MovedFrame | DeltaFrame | ChangedFrame | EndedFrame

_frames = msgspec.msgpack.Decoder(list[AnyFrame])
_record = msgspec.msgpack.Decoder(Record)
_ended = msgspec.msgpack.Decoder(EndedFrame)
_encode = msgspec.msgpack.Encoder().encode


def decode_frames(payload: bytes) -> list[AnyFrame]:
    """The frames of one published message."""
    return _frames.decode(payload)


def decode_ended(payload: bytes) -> EndedFrame:
    """A terminal event as the store keeps it in a snapshot."""
    return _ended.decode(payload)


def encode_record(token_id: int, text: str) -> bytes:
    """One log record."""
    return _encode((token_id, text))


def decode_record(payload: bytes) -> Record:
    """One log record."""
    return _record.decode(payload)


def delta_header(job: str, attempt: int, start: int, count: int) -> bytes:
    """The bytes before `count` encoded records that make the whole a DeltaFrame.

    The append script joins header and records: a token's bytes are sent once and used twice, for log and frame.
    """
    if count < 16:
        array = bytes((0x90 | count,))
    else:
        array = b"\xdc" + count.to_bytes(2, "big")
    return b"\x95" + _encode("d") + _encode(job) + _encode(attempt) + _encode(start) + array
