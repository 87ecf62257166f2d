"""Kept conversations over HTTP: list, read, rename, delete. Knows the contract, not the server."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TypeVar
from urllib.parse import quote

import httpx
import msgspec

from ekiden.client.errors import ClientClosed, Unreachable, error_in
from ekiden.conversations import Conversation, Page, WholeConversation
from ekiden.errors import InvalidRequest

PATH = "/v1/conversations"

TIMEOUT_S = 10.0
PAGE_SIZE = 100

T = TypeVar("T")


class Conversations:
    """The kept conversations of one user. Event loop only; `Client.conversations` makes it and closes it.

    Each call is made once, at the next of several URLs where one cannot be connected to. Raises Unreachable for what
    got no answer, and the EkidenError that the service answered, such as ConversationNotFound.
    """

    def __init__(self, urls: Sequence[str], api_key: str | None) -> None:
        self._urls = urls  # the one that answered last is the first
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S)

    async def list(self) -> AsyncIterator[Conversation]:
        """All of them, the newest change first; asked for page by page."""
        params = {"limit": str(PAGE_SIZE)}
        while True:
            page = await self._ask("GET", None, Page, params=params)
            for conversation in page.data:
                yield conversation
            if page.next is None:
                return
            params["cursor"] = page.next

    async def get(self, conversation: str, *, before: int | None = None) -> WholeConversation:
        """One with its last 100 turns, or with the 100 before turn number `before`."""
        params = {} if before is None else {"before": str(before)}
        return await self._ask("GET", _checked(conversation), WholeConversation, params=params)

    async def rename(self, conversation: str, title: str) -> Conversation:
        """Give one a title."""
        return await self._ask("PATCH", _checked(conversation), Conversation, json={"title": title})

    async def delete(self, conversation: str) -> None:
        """Forget one; an answer that is under way in it is cancelled."""
        await self._ask("DELETE", _checked(conversation), dict)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _ask(
        self, method: str, name: str | None, kind: type[T], *, params: dict[str, str] | None = None, json: object = None
    ) -> T:
        try:
            path = PATH if name is None else f"{PATH}/{quote(name, safe='')}"
            answer = await self._send(method, path, params or {}, json)
        except UnicodeEncodeError:
            raise InvalidRequest("An id or title is not valid Unicode text.") from None
        if answer.is_success:
            with suppress(msgspec.DecodeError):
                return msgspec.json.decode(answer.content, type=kind)
        other = f"{answer.url} answered HTTP {answer.status_code}; it may be another service."
        raise error_in(answer.content) or Unreachable(other)

    async def _send(self, method: str, path: str, params: dict[str, str], json: object) -> httpx.Response:
        if self._http.is_closed:
            raise ClientClosed("The client is closed.")
        reason = ""
        for url in self._urls:
            try:
                answer = await self._http.request(method, url + path, params=params, json=json)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                reason = f"{url} cannot be reached."
            except httpx.TransportError:
                reason = f"{url} did not answer."
                break  # it may have been done
            else:
                self._urls = [url, *(other for other in self._urls if other != url)]
                return answer
        raise Unreachable(reason)


def _checked(conversation: str) -> str:
    if not (isinstance(conversation, str) and conversation):
        raise InvalidRequest("A conversation's id is a text that is not empty.")
    return conversation
