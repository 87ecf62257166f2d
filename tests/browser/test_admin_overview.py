"""The overview is live, remembers what it shows, and holds a model's queue."""

import re

from playwright.sync_api import expect

from tests.browser.dashboard import Dashboard
from tests.browser.fleet_service import FleetService
from tests.support.waiting import until

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


def test_a_step_that_goes_on_does_not_lower_the_legend(watched: FleetService, dashboard: Dashboard) -> None:
    watched.ask(params={"max_tokens": 3800})

    def whole_steps() -> list[float]:
        """The last two."""
        rates: list[float] = watched.get("series?range=15m")["columns"]["tokens_per_s"][-3:-1]
        return rates

    legend = (
        dashboard.page.get_by_role("figure", name="Tokens a second").locator("li", has_text="Generated").locator("b")
    )

    def shown() -> float:
        return float(legend.inner_text().replace(",", ""))

    until(lambda: 0 < 0.8 * max(whole_steps()) < min(whole_steps()), what="two steps at an even rate")
    until(lambda: shown() > 0.9 * min(whole_steps()), what="a page that has them")
    begun = watched.get("series?range=15m")["times"][-1]
    least: list[float] = []
    seen: list[float] = []

    def another_step_is_half_over() -> bool:
        least.append(min(whole_steps()))
        seen.append(shown())
        series = watched.get("series?range=15m")
        return bool(series["times"][-1] > begun and series["now_ms"] / 1000 > series["times"][-1] + 2.5)

    until(another_step_is_half_over, what="another step")
    assert min(seen) > 0.9 * min(least)


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
