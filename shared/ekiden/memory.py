"""What a conversation keeps of its turns, as the store holds it: msgpack, positional, never seen by clients.

The scripts join these from values they have already (lua/lib/conversation.lua), so the order of fields matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ekiden.protocol import JobRequest, Message
from ekiden.wire import Record


class StoredPrompt(msgspec.Struct, frozen=True, array_like=True):
    """The prompt of a job, and all that its text depends on; written once, by the first attempt.

    With `kept` null, `ids` is the whole prompt. Otherwise the prompt is that of the turn before, the first `kept` ids
    of that turn's answer, then `ids`. `first_turn` is the number of the oldest kept turn it shows (from 1).
    """

    ids: list[int]
    kept: int | None = None
    first_turn: int = 1
    dropped_turns: int = 0
    retokenized_tokens: int = 0
    stop: list[str] = []
    replace: list[tuple[str, str]] = []


class KeptTurn(msgspec.Struct, frozen=True, array_like=True):
    """A turn that is over: what was asked, the prompt, the answer's log, and how it ended."""

    request: JobRequest
    prompt: StoredPrompt
    records: list[Record]
    job: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    ended_ms: int

    @property
    def message(self) -> str:
        """What the user said."""
        return self.request.messages[-1].content

    @property
    def answer(self) -> str:
        """What was shown."""
        return "".join([record.text for record in self.records])


@dataclass(frozen=True, slots=True)
class Memory:
    """What the store gives a worker of the conversation that a job belongs to.

    `turn` is the number of the turn that the job makes. `turns` begin with the oldest that the turn before it shows,
    and end with the one before it; or with the turn it replaces, when its request asks for the same prompt again.
    """

    turn: int
    seed: bytes
    turns: Sequence[bytes]

    def seed_messages(self) -> list[Message]:
        """The messages that the conversation began with."""
        return decode_messages(self.seed)

    def kept_turns(self) -> list[KeptTurn]:
        """The turns, oldest first."""
        return [decode_turn(turn) for turn in self.turns]


_messages = msgspec.msgpack.Decoder(list[Message])
_prompt = msgspec.msgpack.Decoder(StoredPrompt)
_turn = msgspec.msgpack.Decoder(KeptTurn)
_encode = msgspec.msgpack.Encoder().encode


def encode_prompt(prompt: StoredPrompt) -> bytes:
    """A prompt as the store keeps it."""
    return _encode(prompt)


def decode_prompt(payload: bytes) -> StoredPrompt:
    """A prompt as the store keeps it."""
    return _prompt.decode(payload)


def encode_messages(messages: Sequence[Message]) -> bytes:
    """The seed of a conversation."""
    return _encode(list(messages))


def decode_messages(payload: bytes) -> list[Message]:
    """The seed of a conversation; one that began with nothing has none."""
    return _messages.decode(payload) if payload else []


def decode_turn(payload: bytes) -> KeptTurn:
    """A turn as the store keeps it."""
    return _turn.decode(payload)
