"""Workers are drained, and killed on purpose: no job is lost."""

import re

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.dashboard import RUNNING, Dashboard
from tests.browser.fleet_service import ENVIRONMENT, FleetService, key_of
from tests.support.processes import Process, Processes
from tests.support.waiting import until

DRILLS = {"EKIDEN_CHAOS_DRILLS": "true"}
LONG = {"max_tokens": 3000}


@pytest.fixture
def workers(fleet: Processes) -> list[Process]:
    return [fleet.worker(**DRILLS), fleet.worker(**DRILLS)]


@pytest.fixture
def service(fleet: Processes, workers: list[Process]) -> FleetService:
    return FleetService(fleet.api(**DRILLS, **ENVIRONMENT).http)


@pytest.fixture
def own(context: BrowserContext, service: FleetService) -> Dashboard:
    return Dashboard(context).enter(service.url, key_of("ann")).go("workers")


def busy(service: FleetService, workers: list[Process], job: str) -> tuple[Process, Process]:
    """The worker that runs a job, and the other."""
    service.generates(job, 10)
    owner = service.job(job)["worker"]
    pid = next(found["pid"] for found in service.get("workers")["workers"] if found["incarnation"] == owner)
    first, second = workers
    return (first, second) if first.pid == pid else (second, first)


def test_a_drained_worker_takes_no_jobs(service: FleetService, workers: list[Process], own: Dashboard) -> None:
    job = service.ask(params=LONG)
    runner, other = busy(service, workers, job)
    card = own.card(runner.pid)
    card.get_by_role("button", name=re.compile("^Drain")).click()
    own.dialog.get_by_label(re.compile("Move its jobs now")).check()
    own.confirm(re.compile("^Drain "), "Drain")
    expect(card).to_have_attribute("data-state", "draining")
    expect(card).to_contain_text("0 of 32")
    expect(own.card(other.pid)).to_contain_text("1 of 32")
    own.go(f"jobs/{job}")
    attempts = own.page.locator("tr[data-attempt]")
    expect(attempts).to_have_count(2)
    expect(attempts.nth(0)).to_contain_text(f":{runner.pid}")
    expect(attempts.nth(1)).to_contain_text(f":{other.pid}")
    own.go("workers")
    card.get_by_role("button", name=re.compile("^Undrain")).click()
    expect(card).to_have_attribute("data-state", "ready")


def test_a_drill_kills_a_worker_and_loses_nothing(
    service: FleetService, workers: list[Process], own: Dashboard
) -> None:
    jobs = [service.ask(params=LONG) for _ in range(6)]
    for job in jobs:
        service.generates(job, 10)
    victim = workers[0]
    until(lambda: sum(found["running"] for found in service.get("workers")["workers"]) == 6, what="beats that tell so")
    had = next(found["running"] for found in service.get("workers")["workers"] if found["pid"] == victim.pid)
    card = own.card(victim.pid)
    card.get_by_role("button", name=re.compile("^Kill .* now$")).click()
    own.confirm(re.compile("^Kill .* now\\?$"), "Kill it now")
    scorecard = own.page.get_by_role("article", name="Survival scorecard")
    expect(scorecard).to_have_attribute("data-ended", "true")
    expect(scorecard).to_contain_text("Every job survived.")
    for score, figure in (("jobs", had), ("moved", had), ("lost", 0), ("waiting", 0)):
        expect(scorecard.locator(f"[data-score={score}] .figure")).to_have_text(str(figure))
    expect(scorecard.locator("[data-score=stall_max] .figure")).to_have_text(re.compile(r"\d m?s"))
    scorecard.get_by_text("Job by job").click()
    expect(scorecard.get_by_role("table").locator("tbody tr")).to_have_count(had)
    until(lambda: victim.child.poll() is not None, what="the end of the killed worker")
    expect(card).to_have_count(0)
    assert {service.job(job)["state"] for job in jobs} == {RUNNING}


def test_without_the_setting_there_is_no_drill(dashboard: Dashboard) -> None:
    dashboard.go("workers")
    expect(dashboard.main).to_contain_text("Chaos drills are off.")
    expect(dashboard.page.locator("[data-worker]")).to_have_count(1)
    expect(dashboard.button(re.compile("^Kill"))).to_have_count(0)
    assert dashboard.post("drills", {"worker": "any"}) == 403
    dashboard.forget()
