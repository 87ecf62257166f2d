"""A fleet whose keys have roles, as other programs use it: they ask, and look at what became of it."""

import json
import uuid
from typing import Any

from websockets.sync.client import connect

from tests.support import http
from tests.support.waiting import until

Found = dict[str, Any]

KEYS = {"ann": "admin", "vic": "viewer", "una": "user", "ulf": "user"}  # user → role; the key is KEY of the user
OPEN = ("queued", "running", "parked")


def key_of(user: str) -> str:
    """The API key of a user."""
    return f"key-of-{user}-0123456789abcdef"


ENVIRONMENT = {"EKIDEN_API_KEYS": ",".join(f"{user}:{key_of(user)}:{role}" for user, role in KEYS.items())}


class FleetService:
    """The API at a URL."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, text: str = "Hello", user: str = "una", **fields: Any) -> str:
        """Begin an answer and leave; returns the job. `WAIT` in the text makes one that generates nothing."""
        frame = {"type": "chat", "id": str(uuid.uuid4()), "messages": [{"role": "user", "content": text}], **fields}
        headers = {"Authorization": f"Bearer {key_of(user)}"}
        with connect(f"{self.url.replace('http', 'ws')}/v1/chat", additional_headers=headers) as socket:
            socket.send(json.dumps(frame))
            accepted = json.loads(socket.recv(timeout=30))
        assert accepted["type"] == "accepted", accepted
        return str(accepted["job"])

    def job(self, job: str) -> Found:
        """All that an admin sees of a job."""
        return self.get(f"jobs/{job}")

    def reaches(self, job: str, state: str) -> Found:
        """Wait until a job is in a state."""
        return until(lambda: found if (found := self.job(job))["state"] == state else None, what=f"the state {state}")

    def generates(self, job: str, tokens: int) -> None:
        """Wait until so many tokens are logged."""
        until(lambda: self.job(job)["cursor"] >= tokens, what=f"{tokens} tokens")

    def quiet(self) -> None:
        """End what runs and waits."""
        for state in OPEN:
            order: Found = {"action": "cancel", "filter": {"state": state}}
            order["confirm"] = self.post("bulk", order)["confirm"]
            self.post("bulk", order)
        until(lambda: not any(self.get("overview")["states"][state] for state in OPEN), what="a quiet fleet")

    def get(self, path: str) -> Found:
        return self._call("GET", path)

    def post(self, path: str, body: Found | None = None) -> Found:
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: Found | None = None) -> Found:
        headers = {"Authorization": f"Bearer {key_of('ann')}"}
        answer = http.request(method, f"{self.url}/admin/api/{path}", json=body, headers=headers, timeout=30)
        assert answer.is_success, answer.text
        found: Found = answer.json()
        return found
