"""The service without a browser: what another device of the same person would do."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from websockets.sync.client import connect

from tests.support import http
from tests.support.waiting import until

Found = dict[str, Any]


class Service:
    """The API at a URL, as the anonymous user."""

    def __init__(self, url: str) -> None:
        self.url = url

    def conversations(self) -> list[Found]:
        """The newest conversations."""
        found: list[Found] = self._call("GET", "?limit=100")["data"]
        return found

    def read(self, conversation: str) -> Found:
        """One with its turns."""
        return self._call("GET", f"/{conversation}")

    def said(self, conversation: str) -> list[tuple[str, str]]:
        """The messages and answers that are kept."""
        return [(turn["message"], turn["answer"]) for turn in self.read(conversation)["turns"]]

    def rename(self, conversation: str, title: str) -> None:
        """Give it a title."""
        self._call("PATCH", f"/{conversation}", {"title": title})

    def delete(self, conversation: str) -> None:
        """Forget it."""
        self._call("DELETE", f"/{conversation}")

    def ask(self, message: str, conversation: str = "new", before: Sequence[Found] = ()) -> str:
        """Begin an answer and leave; returns the conversation. A new one may have messages `before`."""
        frame: Found = {"type": "chat", "id": str(uuid.uuid4()), "conversation": conversation}
        if before:
            frame["messages"] = [*before, {"role": "user", "content": message}]
        else:
            frame["message"] = message
        with connect(f"{self.url.replace('http', 'ws')}/v1/chat") as socket:
            socket.send(json.dumps(frame))
            accepted = json.loads(socket.recv(timeout=30))
        assert accepted["type"] == "accepted", accepted
        return str(accepted["conversation"])

    def talk(self, *messages: str, before: Sequence[Found] = ()) -> str:
        """A conversation of answered messages."""
        conversation = self.ask(messages[0], before=before)
        self.settled(conversation)
        for message in messages[1:]:
            self.ask(message, conversation)
            self.settled(conversation)
        return conversation

    def settled(self, conversation: str) -> None:
        """Wait until no answer is under way in it."""
        until(lambda: self.read(conversation)["busy"] is None, timeout_s=60, what="the end of the answer")

    def _call(self, method: str, path: str, body: Found | None = None) -> Found:
        answer = http.request(method, f"{self.url}/v1/conversations{path}", json=body, timeout=30)
        assert answer.is_success, answer.text
        found: Found = answer.json()
        return found
