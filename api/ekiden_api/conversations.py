"""The HTTP API of conversations that are kept: list, read, rename, delete."""

import asyncio
import re
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from ekiden.conversations import Conversation, Page, Pending, Turn, WholeConversation
from ekiden.errors import ConversationNotFound, InvalidRequest
from ekiden.memory import KeptTurn, decode_messages, decode_turn
from ekiden.protocol import JobRequest, Usage
from ekiden.store.commands import ANY_TURN
from ekiden.store.types import ConversationSummary, ConversationView, PageEnd, PendingTurn
from ekiden.validation import parse_title
from ekiden_api.body import read_body
from ekiden_api.http import service_of

router = APIRouter(prefix="/v1/conversations")

TURNS_A_PAGE = 100

_CURSOR = re.compile(r"([0-9]{1,15})-([0-9a-f]{32})")


@router.get("")
async def list_conversations(
    request: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20, cursor: str | None = None
) -> Response:
    """The conversations of this user, the newest change first; `cursor` is the `next` of the page before."""
    service = service_of(request)
    user = (await service.access.identify(request)).user
    after = None if cursor is None else _place(cursor)
    page = await service.store.run(service.store.commands.list_conversations(user, limit, after))
    following = f"{page.following.updated_ms}-{page.following.id}" if page.following else None
    return _json(Page([_shown(summary) for summary in page.conversations], following))


@router.get("/{conversation}")
async def read_conversation(
    request: Request, conversation: str, before: Annotated[int, Query(ge=1, le=ANY_TURN)] = ANY_TURN
) -> Response:
    """A conversation of this user with its last 100 turns, or the 100 before turn number `before`."""
    service = service_of(request)
    user = (await service.access.identify(request)).user
    command = service.store.commands.read_conversation(user, conversation, TURNS_A_PAGE, before=before, seed=True)
    kept = await service.store.run(command)
    if kept is None:
        raise ConversationNotFound("There is no such conversation.")
    # A hundred long answers take a while to decode; other streams go on meanwhile.
    return await asyncio.to_thread(lambda: _json(_whole(kept)))


@router.patch("/{conversation}")
async def rename_conversation(request: Request, conversation: str) -> Response:
    """Give a conversation of this user the `title` in the body."""
    service = service_of(request)
    user = (await service.access.identify(request)).user
    title = parse_title(await read_body(request))
    summary = await service.store.run(service.store.commands.rename_conversation(user, conversation, title))
    if summary is None:
        raise ConversationNotFound("There is no such conversation.")
    return _json(_shown(summary))


@router.delete("/{conversation}")
async def delete_conversation(request: Request, conversation: str) -> dict[str, str | bool]:
    """Forget a conversation of this user; an answer that is under way in it is cancelled."""
    service = service_of(request)
    user = (await service.access.identify(request)).user
    if not await service.store.run(service.store.commands.delete_conversation(user, conversation)):
        raise ConversationNotFound("There is no such conversation.")
    return {"id": conversation, "object": "conversation", "deleted": True}


def _place(cursor: str) -> PageEnd:
    found = _CURSOR.fullmatch(cursor)
    if not found:
        raise InvalidRequest("cursor must be the `next` of a page before.")
    return PageEnd(int(found[1]), found[2])


def _shown(summary: ConversationSummary) -> Conversation:
    return msgspec.convert(summary, Conversation, from_attributes=True)


def _whole(kept: ConversationView) -> WholeConversation:
    turns = [_turn(number, decode_turn(turn)) for number, turn in enumerate(kept.turns, kept.first_turn)]
    return WholeConversation(
        **msgspec.structs.asdict(_shown(kept.summary)),
        messages=decode_messages(kept.seed),
        turns=turns,
        pending=_pending(kept.pending) if kept.pending else None,
    )


def _pending(turn: PendingTurn) -> Pending:
    request = msgspec.msgpack.decode(turn.request, type=JobRequest)
    return Pending(turn.turn, request.messages[-1].content)


def _turn(number: int, turn: KeptTurn) -> Turn:
    usage = Usage(turn.prompt_tokens, len(turn.records), turn.cached_tokens, turn.prompt.retokenized_tokens)
    return Turn(
        turn=number,
        message=turn.message,
        answer=turn.answer,
        finish_reason=turn.finish_reason,
        job=turn.job,
        dropped_turns=turn.prompt.dropped_turns,
        usage=usage,
        ended_ms=turn.ended_ms,
    )


def _json(body: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")
