"""Takes the pictures of the dashboard in docs/images: a real fleet under load, looked at by a real browser.

The longer the fleet ran, the more of a plot is drawn: `--minutes 15` fills it.
"""

import argparse
import asyncio
import os
import secrets
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from ekiden.settings import load_settings
from tests.browser.chromium import ARGUMENTS, chromium
from tests.screenshots.load import USERS, chat_for
from tests.support.processes import ROOT, Api, Processes, processes, python_path
from tests.support.valkey import running_valkey

FOLDER = ROOT / "docs" / "images"
MACHINE = Path(__file__).parent / "machine"
SIZE = {"width": 1280, "height": 860}
MOST_BYTES = 200_000
ENGINE = {
    "EKIDEN_ENGINE": "tests.browser.echo_engine:load",
    "EKIDEN_TEST_STEP_S": "0.03",
    "EKIDEN_MAX_RUNNING": "8",
    "EKIDEN_CHAOS_DRILLS": "true",
}


def on_machine(host: str) -> dict[str, str]:
    """The environment of a process that takes its machine for this one."""
    return {"PYTHONPATH": os.pathsep.join([str(MACHINE), python_path()]), "EKIDEN_TEST_HOST": host}


def start(fleet: Processes, keys: dict[str, str]) -> Api:
    """One API process and two workers."""
    for host in ("runner-1", "runner-2"):
        fleet.worker(**ENGINE, **on_machine(host))
    listed = ",".join(f"{user}:{key}:{'admin' if user == 'nadia' else 'user'}" for user, key in keys.items())
    texts = {"EKIDEN_ADMIN_SHOW_TEXT": "true", "EKIDEN_CHAOS_DRILLS": "true"}
    return fleet.api(EKIDEN_API_KEYS=listed, **texts, **on_machine("api-1"))


def enter(page: Page, api: Api, key: str) -> None:
    """Come in by the login page."""
    page.goto(f"{api.http}/admin")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Live", exact=True).wait_for()


def drill(page: Page, fleet: Processes) -> None:
    """Kill a worker from the dashboard; another takes its place."""
    page.goto(f"{page.url.split('#')[0]}#/workers")
    page.get_by_role("button", name="Kill runner-1").click()
    page.get_by_role("button", name="Kill it now").click()
    page.locator("[data-drill][data-ended=true]").wait_for(timeout=60_000)
    fleet.worker(**ENGINE, **on_machine("runner-3"))


def moved_job(page: Page) -> str:
    """The address of a job that two workers shared."""
    rows = page.locator("tr[data-job]").filter(has=page.locator("td[data-label=Attempts]", has_text="2"))
    address = rows.first.locator("a").get_attribute("href")
    assert address
    return address


def take(page: Page, name: str, hash_: str, shows: str) -> None:
    """One picture, once the view shows what it is about."""
    page.goto(f"{page.url.split('#')[0]}{hash_}")
    page.locator(shows).first.wait_for()
    page.locator(".notice[data-empty=true]").wait_for(state="attached")
    page.mouse.move(2, 2)  # over no row
    page.wait_for_timeout(1500)  # the notice fades, the plots are drawn
    path = FOLDER / f"admin-{name}.png"
    page.screenshot(path=path)
    assert path.stat().st_size <= MOST_BYTES, f"{path.name} has {path.stat().st_size} bytes"
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} KB")


def take_all(page: Page) -> None:
    """All pictures."""
    take(page, "overview", "#/overview", ".plot canvas")
    take(page, "jobs", "#/jobs", "tr[data-job]")
    take(page, "job", moved_job(page), ".relay")
    take(page, "workers", "#/workers", "[data-drill]")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    seconds = parser.parse_args().minutes * 60
    keys = {user: secrets.token_hex(16) for user in (*USERS, "nadia")}
    with tempfile.TemporaryDirectory() as name, running_valkey(Path(name), append_only=True) as valkey:
        settings = load_settings(redis_url=valkey.url, key_prefix="pictures")
        with processes(settings, Path(name)) as fleet, sync_playwright() as playwright:
            api = start(fleet, keys)
            load = threading.Thread(target=lambda: asyncio.run(chat_for(api.http, keys, seconds + 60)), daemon=True)
            load.start()
            browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
            page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
            enter(page, api, keys["nadia"])
            time.sleep(seconds)
            drill(page, fleet)
            take_all(page)
            browser.close()


if __name__ == "__main__":
    main()
