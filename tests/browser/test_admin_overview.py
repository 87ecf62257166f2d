"""The overview is live, remembers what it shows, and holds a model's queue."""

import re

from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.fleet_service import FleetService

PLOTS = ("states", "tokens", "ttft", "itl", "queue", "ended", "losses", "kv", "prefix")


def test_figures_follow_the_fleet(watched: FleetService, dashboard: Dashboard) -> None:
    expect(dashboard.tile("running")).to_have_text("0")
    jobs = [watched.ask("WAIT"), watched.ask("WAIT")]
    expect(dashboard.tile("running")).to_have_text("2")
    watched.post(f"jobs/{jobs[0]}/cancel")
    expect(dashboard.tile("running")).to_have_text("1")
    watched.ask(params={"max_tokens": 2000})
    expect(dashboard.tile("tokens_per_s")).to_have_text(re.compile(r"[1-9]"))
    expect(dashboard.tile("ttft")).to_have_text(re.compile(r"\d m?s"))
    expect(dashboard.tile("itl")).to_have_text(re.compile(r"\d m?s"))


def test_the_history_is_drawn_and_told(watched: FleetService, dashboard: Dashboard) -> None:
    watched.ask(params={"max_tokens": 2000})
    for name in PLOTS:
        expect(dashboard.page.locator(f"[data-plot={name}] canvas")).to_have_count(1)
    tokens = dashboard.page.get_by_role("figure", name="Tokens a second")
    expect(tokens.locator("li", has_text="Generated").locator("b")).to_have_text(re.compile(r"[1-9]"))
    tokens.get_by_text("As a table").click()
    table = tokens.get_by_role("table", name="Tokens a second")
    expect(table.get_by_role("columnheader")).to_have_text(["Time", "Generated", "Prompt"])
    expect(table.get_by_role("row").nth(1)).to_have_text(re.compile(r"\d\d:\d\d:\d\d"))


def test_a_reload_shows_the_same_range(dashboard: Dashboard) -> None:
    dashboard.page.get_by_role("link", name="1 h", exact=True).click()
    chosen = dashboard.page.locator(".ranges a[aria-current]")
    expect(chosen).to_have_text("1 h")
    expect(dashboard.page).to_have_url(re.compile(r"#/overview\?range=1h$"))
    dashboard.page.reload()
    expect(chosen).to_have_text("1 h")
    expect(dashboard.page.locator("[data-plot=states] canvas")).to_have_count(1)


def test_a_held_queue_keeps_its_jobs(watched: FleetService, dashboard: Dashboard) -> None:
    dashboard.button(re.compile("^Pause the queue of")).click()
    expect(dashboard.notice).to_contain_text("is paused")
    job = watched.ask(params={"max_tokens": 5})
    expect(dashboard.tile("queued")).to_have_text("1")
    dashboard.button(re.compile("^Resume the queue of")).click()
    watched.reaches(job, "done")
    expect(dashboard.tile("queued")).to_have_text("0")


def test_processes_and_the_store_are_described(dashboard: Dashboard) -> None:
    expect(dashboard.page.get_by_role("table", name="API processes").locator("tr[data-replica]")).to_have_count(1)
    store = dashboard.page.get_by_role("region", name="Job store")
    expect(store).to_contain_text("refuses writes (noeviction)")
    expect(store).to_contain_text(re.compile(r"valkey \d", re.IGNORECASE))
