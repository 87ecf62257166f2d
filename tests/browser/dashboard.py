"""One browser tab with the dashboard: what an operator does and sees."""

import re
from typing import Any

from playwright.sync_api import Locator, expect

from tests.browser.tab import Tab

DONE, RUNNING, CANCELLED = "done", "running", "cancelled"
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


class Dashboard(Tab):
    """A tab of a browser profile; not opened yet."""

    url: str

    def open(self, url: str) -> "Dashboard":
        """Go to the overview, as one who may."""
        self.url = f"{url}/admin"
        self.page.goto(self.url)
        self.connected()
        return self

    def enter(self, url: str, key: str) -> "Dashboard":
        """Go there with a key, by the login page."""
        self.url = f"{url}/admin"
        self.page.goto(self.url)
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        self.connected()
        self.forget()  # the browser complains of the 401 that brought the login page
        return self

    def connected(self) -> None:
        expect(self.connection).to_have_attribute("data-state", "live")

    def go(self, hash_: str) -> "Dashboard":
        """Show a view: `jobs?state=running`."""
        self.page.goto(f"{self.url}#/{hash_}")
        return self

    @property
    def connection(self) -> Locator:
        return self.page.locator(".connection")

    @property
    def main(self) -> Locator:
        return self.page.get_by_role("main")

    @property
    def notice(self) -> Locator:
        """What was said last."""
        return self.page.locator(".notice")

    @property
    def dialog(self) -> Locator:
        return self.page.get_by_role("dialog")

    @property
    def rows(self) -> Locator:
        """The jobs that are listed."""
        return self.page.locator("tr[data-job]")

    def row(self, job: str) -> Locator:
        return self.page.locator(f"tr[data-job='{job}']")

    def tile(self, name: str) -> Locator:
        """A figure of the overview."""
        return self.page.locator(f"[data-tile={name}] .figure")

    @property
    def state(self) -> Locator:
        """The state of the job that is shown whole."""
        return self.page.locator(".headline .chip")

    def card(self, pid: int) -> Locator:
        """The worker with this pid."""
        return self.page.locator("[data-worker]").filter(
            has=self.page.get_by_role("heading", name=re.compile(f":{pid}$"))
        )

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.main.get_by_role("button", name=name)

    def confirm(self, title: str | re.Pattern[str], button: str) -> None:
        """Agree to what a dialog asks."""
        expect(self.dialog.get_by_role("heading")).to_have_text(title)
        self.dialog.get_by_role("button", name=button).click()
        expect(self.dialog).to_have_count(0)

    def post(self, path: str, body: dict[str, Any] | None = None) -> int:
        """What the page itself could send; the status it is answered with."""
        status: int = self.page.evaluate(
            """async ([path, body]) => {
                const headers = { "Content-Type": "application/json" };
                return (await fetch(path, { method: "POST", headers, body: JSON.stringify(body) })).status;
            }""",
            [f"/admin/api/{path}", body or {}],
        )
        return status
