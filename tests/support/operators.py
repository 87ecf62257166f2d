"""A service with keys for each role, and requests to its admin API."""

import asyncio
import uuid
from typing import Any

import httpx

from tests.support import http
from tests.support.processes import Api
from tests.support.socket import connected

KEYS = {
    "EKIDEN_API_KEYS": "ada:key-of-ada,bob:key-of-bob,vera:key-of-vera:viewer,olga:key-of-olga:admin",
    "EKIDEN_CHAOS_DRILLS": "true",
}
ENDED = ("done", "cancelled", "error")


def headers(user: str) -> dict[str, str]:
    """The key of a user."""
    return {"Authorization": f"Bearer key-of-{user}"}


class Desk:
    """The admin API of one process, as one user sees it."""

    def __init__(self, api: Api, user: str = "olga") -> None:
        self.api = api
        self.user = user

    def get(self, path: str, **params: Any) -> Any:
        """The answer to a GET that goes well."""
        response = self.ask("GET", path, params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, path: str, **body: Any) -> Any:
        """The answer to a POST that goes well."""
        response = self.ask("POST", path, json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, method: str, path: str, **body: Any) -> tuple[int, str]:
        """Status and code of a refusal."""
        response = self.ask(method, path, json=body) if method == "POST" else self.ask(method, path, params=body)
        return response.status_code, response.json()["error"]["code"]

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Any request."""
        url = f"{self.api.http}/admin/api/{path}"
        return http.request(method, url, headers=headers(self.user), timeout=20, **options)

    def job(self, job: str) -> dict[str, Any]:
        """One job."""
        found: dict[str, Any] = self.get(f"jobs/{job}")
        return found

    def in_state(self, job: str, *states: str) -> bool:
        """Whether a job is in one of these states."""
        return self.job(job)["state"] in states


def submit(api: Api, text: str = "Hello", user: str = "ada", count: int = 1, **params: Any) -> list[str]:
    """Ask for answers, and go away; they are kept."""

    async def ask() -> list[str]:
        async with connected(api.socket, additional_headers=headers(user)) as socket:
            return [await socket.chat(text, id=str(uuid.uuid4()), params=params) for _ in range(count)]

    return asyncio.run(ask())
