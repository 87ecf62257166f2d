"""What a chat or regenerate frame becomes: a job, and its place in a conversation that is kept."""

import hashlib
import secrets
from dataclasses import dataclass

import msgspec

from ekiden.errors import ConversationBusy, ConversationNotFound, IdConflict, InvalidRequest, OutOfRange
from ekiden.memory import decode_turn, encode_messages
from ekiden.protocol import Chat, Message, Regenerate
from ekiden.store.commands import ANY_TURN
from ekiden.store.records import read_job
from ekiden.store.types import ConversationView, FirstTurn, NewJob, NextTurn, Place, TurnAgain
from ekiden.validation import NEW_CONVERSATION, resolve
from ekiden_api.service import Service

DEFAULT_TITLE_LENGTH = 80

Asking = Chat | Regenerate


async def new_job(frame: Asking, client_id: str, user: str, service: Service) -> NewJob:
    """The job that answers a checked frame; not stored yet. Raises EkidenError for what could not be answered."""
    draft = await _draft(frame, user, service)
    await service.check_model(draft.model, frame.params.max_tokens)
    seed = secrets.randbits(63)
    request = resolve(draft.messages, frame.params, draft.model, seed, same_prompt=draft.same_prompt)
    chat = frame if isinstance(frame, Chat) else Chat()  # a regenerate has the defaults of one
    return NewJob(
        job=secrets.token_hex(16),
        user=user,
        client_id=client_id,
        digest=_digest(frame),
        model=draft.model,
        priority=chat.priority,
        on_disconnect=chat.on_disconnect,
        request=msgspec.msgpack.encode(request),
        place=draft.place,
    )


async def earlier_job(frame: Asking, user: str, service: Service) -> str | None:
    """The job that this very request became before, if it did. Raises IdConflict when another request did."""
    if frame.id is None:
        return None
    found = await service.store.redis.get(service.store.keys.idempotency(user, frame.id))
    record = await read_job(service.store, found.decode()) if found else None
    if record is None:
        return None
    if record.digest != _digest(frame):
        raise IdConflict("This id was used for another request.")
    return record.id


@dataclass(frozen=True, slots=True)
class _Draft:
    messages: list[Message]
    model: str
    place: Place | None = None
    same_prompt: bool = False


async def _draft(frame: Asking, user: str, service: Service) -> _Draft:
    if isinstance(frame, Regenerate):
        return await _again(frame, user, service)
    if frame.conversation is None:
        return _Draft(frame.messages or [], frame.model or service.settings.model_name)
    if frame.conversation == NEW_CONVERSATION:
        return _first(frame, frame.model or service.settings.model_name)
    kept = await _read(frame.conversation, user, service)
    if frame.model not in (None, kept.summary.model):
        raise InvalidRequest("A conversation goes on with the model that it began with.")
    return _Draft([Message("user", frame.message or "")], kept.summary.model, NextTurn(frame.conversation))


def _first(chat: Chat, model: str) -> _Draft:
    messages = chat.messages or [Message("user", chat.message or "")]
    seed = encode_messages(messages[:-1]) if len(messages) > 1 else b""
    place = FirstTurn(secrets.token_hex(16), seed, _title(messages))
    return _Draft(messages[-1:], model, place)


async def _again(frame: Regenerate, user: str, service: Service) -> _Draft:
    """Another answer to a turn, or to another message in its place; from the conversation as it is now."""
    before = ANY_TURN if frame.turn is None else frame.turn + 1
    kept = await _read(frame.conversation, user, service, turns=1, before=before)
    count = kept.summary.turn_count
    if kept.summary.busy:
        raise ConversationBusy("The conversation's last answer is still under way.", retry_after_s=1.0)
    if not count:
        raise InvalidRequest("The conversation has no turn to regenerate.")
    turn = frame.turn or count
    if turn > count:
        raise OutOfRange(f"turn must be between 1 and {count}.")
    same = frame.message is None
    message = decode_turn(kept.turns[0]).message if frame.message is None else frame.message
    place = TurnAgain(frame.conversation, turn, kept.summary.version, same)
    return _Draft([Message("user", message)], kept.summary.model, place, same)


async def _read(
    conversation: str, user: str, service: Service, *, turns: int = 0, before: int = ANY_TURN
) -> ConversationView:
    command = service.store.commands.read_conversation(user, conversation, turns, before=before)
    kept = await service.store.run(command)
    if kept is None:
        raise ConversationNotFound("There is no such conversation.")
    return kept


def _title(messages: list[Message]) -> str:
    """The first line of what the user said first; empty where that is blank."""
    first = next(message.content for message in messages if message.role == "user")
    lines = (line.strip() for line in first.splitlines())
    return next(filter(None, lines), "")[:DEFAULT_TITLE_LENGTH]


def _digest(frame: Asking) -> str:
    """Identifies what was asked, so that one id cannot mean two things."""
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(frame, id=None))).hexdigest()
