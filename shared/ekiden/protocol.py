"""The WebSocket contract, version 1: every frame a client may send and every frame it may receive, as frozen types.

Decoding of client frames is strict (unknown fields are refused); clients ignore unknown fields of server frames.
"""

from typing import Literal

import msgspec

DEFAULT_URL = "http://127.0.0.1:8000"
"""Where `ekiden up` serves unless told otherwise."""

SUBPROTOCOL = "ekiden.v1"
BEARER_SUBPROTOCOL_PREFIX = "ekiden.bearer."

Role = Literal["system", "user", "assistant"]
OnDisconnect = Literal["keep", "cancel"]
FinishReason = Literal["stop", "length", "cancelled"]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a chat; empty or blank content is valid."""

    role: str
    content: str


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to generate; a field left out or null takes the server's default. Ranges are in `ekiden.validation`."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None


class ClientFrame(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True, tag_field="type"
):
    """Base of what a client sends; the answer to a frame echoes its `id`."""

    id: str | None = None


class Chat(ClientFrame, frozen=True, tag="chat"):
    """Ask for one answer: either `messages`, or a kept `conversation` and its next `message`."""

    messages: list[Message] | None = None
    conversation: str | None = None
    message: str | None = None
    params: Params = Params()
    model: str | None = None
    priority: int = 0
    on_disconnect: OnDisconnect = "keep"


class Regenerate(ClientFrame, frozen=True, tag="regenerate"):
    """Answer a turn of a kept conversation again."""

    conversation: str
    turn: int | None = None
    message: str | None = None
    params: Params = Params()


class Cancel(ClientFrame, frozen=True, tag="cancel"):
    """End a job now; what was generated stays."""

    job: str


class Attach(ClientFrame, frozen=True, tag="attach"):
    """Follow a job from `cursor` on, on this connection."""

    job: str
    cursor: int = 0


class Park(ClientFrame, frozen=True, tag="park"):
    """Hold a job at its next token boundary."""

    job: str


class Resume(ClientFrame, frozen=True, tag="resume"):
    """Queue a parked job again."""

    job: str


class Ping(ClientFrame, frozen=True, tag="ping"):
    """Ask for a pong."""


AnyClientFrame = Chat | Regenerate | Cancel | Attach | Park | Resume | Ping


class Usage(msgspec.Struct, frozen=True):
    """Token counts of one answer.

    `retokenized_tokens`: how many ids of the prompt stand for text of kept answers, but are not the ids that were
    generated: of a token that a stop sequence cut.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    retokenized_tokens: int = 0


class Timings(msgspec.Struct, frozen=True):
    """Milliseconds, measured by the store's clock: accepted → claimed, accepted → first token, accepted → end."""

    queue_ms: int | None = None
    ttft_ms: int | None = None
    total_ms: int | None = None


class ServerFrame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of what the server sends."""


class Accepted(ServerFrame, frozen=True, tag="accepted"):
    """The job is stored and will be answered. `position` counts the jobs ahead of it; approximate."""

    id: str
    job: str
    conversation: str | None = None
    position: int = 0
    eta_s: float | None = None


class Queued(ServerFrame, frozen=True, tag="queued"):
    """The job still waits; sent at most once a second."""

    job: str
    position: int
    eta_s: float | None = None


class Started(ServerFrame, frozen=True, tag="started"):
    """A worker began the answer."""

    job: str
    attempt: int
    dropped_turns: int = 0


class Delta(ServerFrame, frozen=True, tag="delta"):
    """The text between the previous cursor and this one."""

    job: str
    cursor: int
    text: str


class Moved(ServerFrame, frozen=True, tag="moved"):
    """A worker goes on with the answer, from where the last attempt stopped."""

    job: str
    attempt: int


class Parked(ServerFrame, frozen=True, tag="parked"):
    """The job is held."""

    job: str


class Attached(ServerFrame, frozen=True, tag="attached"):
    """The answer to attach; the answer's text from `cursor` on follows."""

    job: str
    state: str
    attempt: int
    cursor: int
    conversation: str | None = None
    id: str | None = None


class Done(ServerFrame, frozen=True, tag="done"):
    """The job's one terminal event when it ended well or was cancelled."""

    job: str
    cursor: int
    finish_reason: FinishReason
    usage: Usage = Usage()
    timings: Timings = Timings()


class Error(ServerFrame, frozen=True, tag="error"):
    """With `job` null: about one frame, the connection goes on. With `job` set: that job's one terminal event."""

    code: str
    message: str
    id: str | None = None
    job: str | None = None
    retryable: bool = False
    retry_after_s: float | None = None


class Pong(ServerFrame, frozen=True, tag="pong"):
    """The answer to ping."""

    id: str | None = None


AnyServerFrame = Accepted | Queued | Started | Delta | Moved | Parked | Attached | Done | Error | Pong

_encoder = msgspec.json.Encoder()
_client_decoder = msgspec.json.Decoder(AnyClientFrame)
_server_decoder = msgspec.json.Decoder(AnyServerFrame)


def encode(frame: ClientFrame | ServerFrame) -> str:
    """One JSON text frame."""
    return encode_bytes(frame).decode()


def encode_bytes(frame: ClientFrame | ServerFrame) -> bytes:
    """One JSON text frame, as its UTF-8 bytes."""
    return _encoder.encode(frame)


def decode_server(data: str | bytes) -> AnyServerFrame:
    """Parse a server frame, ignoring unknown fields. Raises msgspec.DecodeError or msgspec.ValidationError."""
    frame: AnyServerFrame = _server_decoder.decode(data)
    return frame


def decode_client(data: str | bytes) -> AnyClientFrame:
    """Parse a client frame strictly. Raises msgspec.DecodeError or msgspec.ValidationError; see `ekiden.validation`."""
    frame: AnyClientFrame = _client_decoder.decode(data)
    return frame


class JobRequest(msgspec.Struct, frozen=True):
    """What a worker needs to answer: stored with the job, every default already resolved except `max_tokens`.

    `max_tokens` None means: as many as fit, up to the server's default. In a kept conversation `messages` is the new
    user message alone; `same_prompt` then asks for another answer to the prompt of the turn that is replaced.
    """

    messages: list[Message]
    model: str
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    seed: int
    stop: list[str]
    same_prompt: bool = False
