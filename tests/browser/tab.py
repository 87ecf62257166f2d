"""One browser tab with the chat page: what a person does and sees, and what went over the wire meanwhile."""

import json
import re
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, WebSocket, expect

Frame = dict[str, Any]

TIMEOUT_MS = 60_000
SPACE = re.compile(r"\s+")

# Violations are no console message everywhere, so the page itself keeps them.
_KEEP_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
"""


class Tab:
    """A tab of `context`; not opened yet."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.add_init_script(_KEEP_VIOLATIONS)
        self.sent: list[Frame] = []
        self.received: list[Frame] = []
        self.urls: list[str] = []
        self._complaints: list[str] = []
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._complaints.append(str(error)))
        self.page.on("request", self._on_request)
        self.page.on("websocket", self._on_websocket)

    def open(self, url: str) -> "Tab":
        """Go to the page and wait until it is connected."""
        self.page.goto(url)
        self.connected()
        return self

    def connected(self) -> None:
        """Wait until the page says so."""
        expect(self.page.get_by_text("Connected", exact=True)).to_be_attached(timeout=TIMEOUT_MS)

    def ask(self, text: str) -> None:
        """Type a message and send it with Enter."""
        turns = self.turns.count()
        self.input.fill(text)
        self.input.press("Enter")
        expect(self.turns).to_have_count(turns + 1, timeout=TIMEOUT_MS)

    def new_chat(self) -> None:
        """Leave the conversation."""
        self.page.get_by_role("button", name="New chat").click()
        expect(self.turns).to_have_count(0, timeout=TIMEOUT_MS)

    def finish(self) -> str:
        """Wait for the end of the last answer; its facts."""
        facts = self.last.locator(".facts")
        expect(facts).to_be_visible(timeout=TIMEOUT_MS)
        return SPACE.sub(" ", facts.inner_text())

    def reach(self, characters: int) -> None:
        """Wait until the last answer shows that many characters."""
        self.page.wait_for_function(
            "count => [...document.querySelectorAll('.words')].at(-1)?.textContent.length >= count", arg=characters
        )

    @property
    def conversation(self) -> str:
        """The id that the address names."""
        self.page.wait_for_url("**/#c=*")
        return self.page.url.split("#c=")[1]

    @property
    def rows(self) -> Locator:
        """The list of conversations."""
        return self.page.get_by_role("navigation", name="Conversations").get_by_role("listitem")

    @property
    def titles(self) -> list[str]:
        """The titles in the list."""
        return [text.strip() for text in self.rows.locator("a > span").all_text_contents()]

    def shows(self, *messages: str) -> None:
        """Wait until these are the questions, each with the same words for an answer."""
        expect(self.page.locator(".question p")).to_have_text(list(messages), timeout=TIMEOUT_MS)
        expect(self.page.locator(".words")).to_have_text(list(messages), timeout=TIMEOUT_MS)

    @property
    def input(self) -> Locator:
        return self.page.get_by_label("Your message")

    @property
    def turns(self) -> Locator:
        return self.page.locator(".turn")

    @property
    def last(self) -> Locator:
        return self.turns.last

    @property
    def answer(self) -> str:
        """The last answer's text."""
        return self.last.locator(".words").text_content() or ""

    def frames(self, kind: str) -> list[Frame]:
        """Frames of a type, in either direction."""
        return [frame for frame in self.sent + self.received if frame["type"] == kind]

    def complaints(self) -> list[str]:
        """Console errors, exceptions, policy violations and requests to other origins."""
        violations: list[str] = self.page.evaluate("violations")
        own = self.page.evaluate("location.host")
        foreign = [url for url in self.urls if not url.startswith("data:") and url.split("/")[2] != own]
        return self._complaints + violations + foreign

    def forget(self) -> None:
        """Take what was complained about so far for expected."""
        self._complaints.clear()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._complaints.append(message.text)

    def _on_request(self, request: Request) -> None:
        self.urls.append(request.url)

    def _on_websocket(self, websocket: WebSocket) -> None:
        self.urls.append(websocket.url)
        websocket.on("framesent", lambda data: self.sent.extend(_parsed(data)))
        websocket.on("framereceived", lambda data: self.received.extend(_parsed(data)))


def _parsed(data: str | bytes) -> Iterator[Frame]:
    frame: Frame = json.loads(data)
    yield frame
