"""Kept conversations as the HTTP API shows them: the types of both its sides. Clients ignore unknown fields."""

import msgspec

from ekiden.protocol import Message, Usage


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation without its text; `busy` is the job that answers in it now."""

    id: str
    object: str = "conversation"
    title: str
    model: str
    created_ms: int
    updated_ms: int
    turn_count: int
    busy: str | None


class Turn(msgspec.Struct, frozen=True):
    """A turn that is over; turns are numbered from 1."""

    turn: int
    message: str
    answer: str
    finish_reason: str
    job: str
    dropped_turns: int
    usage: Usage
    ended_ms: int


class Pending(msgspec.Struct, frozen=True):
    """The message that is being answered, and the number of the turn that this makes."""

    turn: int
    message: str


class WholeConversation(Conversation, frozen=True, kw_only=True):
    """A conversation with the messages that it began with, and some of its turns, in order."""

    messages: list[Message]
    turns: list[Turn]
    pending: Pending | None


class Page(msgspec.Struct, frozen=True):
    """Conversations, the newest change first; `next` is the cursor of the page that follows."""

    data: list[Conversation]
    next: str | None
    object: str = "list"
