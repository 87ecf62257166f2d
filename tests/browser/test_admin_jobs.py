"""Jobs are found, read and acted on, one by one and many at once."""

import re
import signal

import pytest
from playwright.sync_api import BrowserContext, expect

from tests.browser.dashboard import CANCELLED, DONE, RUNNING, Dashboard
from tests.browser.fleet_service import ENVIRONMENT, FleetService, key_of
from tests.support.fake_engine import expected
from tests.support.processes import Processes

SHORT = {"max_tokens": 3}


def test_filters_stand_in_the_address(watched: FleetService, dashboard: Dashboard) -> None:
    mine = [watched.ask(user="una", params=SHORT), watched.ask("WAIT", user="una")]
    other = watched.ask("WAIT", user="ulf")
    watched.reaches(mine[0], DONE)
    dashboard.go("jobs")
    for job in (*mine, other):
        expect(dashboard.row(job)).to_be_visible()
    dashboard.page.get_by_label("User").fill("una")
    expect(dashboard.row(other)).to_have_count(0)
    dashboard.page.get_by_label("State").select_option("running")
    expect(dashboard.rows).to_have_count(1)
    expect(dashboard.row(mine[1]).locator(".chip")).to_have_text("running")
    expect(dashboard.page).to_have_url(re.compile(r"#/jobs\?state=running&user=una$"))
    dashboard.page.reload()
    expect(dashboard.rows).to_have_count(1)
    expect(dashboard.page.get_by_label("User")).to_have_value("una")
    dashboard.page.get_by_label("Job id").fill(other[:10])
    expect(dashboard.main.get_by_text("No job matches.")).to_be_visible()
    dashboard.button("Clear filter").click()
    expect(dashboard.row(other)).to_be_visible()


def test_rows_are_live(watched: FleetService, dashboard: Dashboard) -> None:
    dashboard.go("jobs?user=una&state=running")
    job = watched.ask("WAIT")
    expect(dashboard.row(job)).to_be_visible()
    watched.post(f"jobs/{job}/cancel")
    expect(dashboard.row(job)).to_have_count(0)


def test_pages_lead_back_and_forth(watched: FleetService, dashboard: Dashboard) -> None:
    oldest = watched.ask(user="ulf", params=SHORT)
    watched.reaches(oldest, DONE)
    for _ in range(60):
        newest = watched.ask(user="ulf", params=SHORT)
    watched.reaches(newest, DONE)
    dashboard.go("jobs?user=ulf&state=done")
    expect(dashboard.rows).to_have_count(50)
    expect(dashboard.button("Newer")).to_be_disabled()
    dashboard.button("Older").click()
    expect(dashboard.row(oldest)).to_be_visible()
    dashboard.page.reload()
    expect(dashboard.row(oldest)).to_be_visible()
    dashboard.button("Newer").click()
    expect(dashboard.row(newest)).to_be_visible()
    expect(dashboard.row(oldest)).to_have_count(0)


def test_a_cancel_is_requested_and_then_acknowledged(fleet: Processes, context: BrowserContext) -> None:
    patient = {"EKIDEN_LEASE_S": "60", "EKIDEN_EARLY_REAP_S": "0"}
    worker = fleet.worker(**patient)
    service = FleetService(fleet.api(**patient, **ENVIRONMENT).http)
    job = service.ask("WAIT")
    service.reaches(job, RUNNING)
    page = Dashboard(context).enter(service.url, key_of("ann")).go(f"jobs/{job}")
    expect(page.state).to_have_text("running")
    worker.send(signal.SIGSTOP)
    page.button("Cancel").click()
    expect(page.state).to_have_text("cancel requested")
    expect(page.button("Cancel requested")).to_be_disabled()
    worker.send(signal.SIGCONT)
    expect(page.state).to_have_text("cancelled")
    expect(page.button("Retry")).to_be_enabled()


def test_a_retry_leads_to_the_new_job(watched: FleetService, dashboard: Dashboard) -> None:
    job = watched.ask("WAIT here")
    watched.reaches(job, RUNNING)
    dashboard.go(f"jobs/{job}")
    dashboard.button("Cancel").click()
    expect(dashboard.state).to_have_text("cancelled")
    dashboard.button("Retry").click()
    expect(dashboard.page).not_to_have_url(re.compile(job))
    expect(dashboard.page.get_by_role("link", name=job)).to_be_visible()
    expect(dashboard.state).to_have_text("running")


def test_parked_jobs_are_held_until_resumed(watched: FleetService, dashboard: Dashboard) -> None:
    job = watched.ask("WAIT")
    watched.reaches(job, RUNNING)
    dashboard.go(f"jobs/{job}")
    dashboard.button("Park").click()
    expect(dashboard.state).to_have_text("parked")
    dashboard.button("Priority…").click()
    dashboard.dialog.get_by_label("Priority").fill("7")
    dashboard.confirm("Another priority", "Set the priority")
    expect(dashboard.page.get_by_role("region", name="About it")).to_contain_text(re.compile("Priority7"))
    dashboard.button("Resume").click()
    expect(dashboard.state).to_have_text("running")


def test_all_that_match_are_counted_before_they_are_cancelled(watched: FleetService, dashboard: Dashboard) -> None:
    jobs = [watched.ask("WAIT", user="ulf") for _ in range(5)]
    spared = watched.ask("WAIT", user="una")
    dashboard.go("jobs?user=ulf&state=running")
    expect(dashboard.rows).to_have_count(5)
    dashboard.page.get_by_label("All that match the filter").check()
    dashboard.button("Cancel").click()
    expect(dashboard.dialog).to_contain_text("state running, user ulf")
    dashboard.dialog.get_by_role("button", name="Leave it").click()
    assert watched.job(jobs[0])["state"] == RUNNING
    dashboard.button("Cancel").click()
    dashboard.confirm("Cancel 5 jobs?", "Cancel 5 jobs")
    expect(dashboard.notice).to_have_text("Cancel sent to 5 jobs.")
    expect(dashboard.rows).to_have_count(0)
    for job in jobs:
        watched.reaches(job, CANCELLED)
    assert watched.job(spared)["state"] == RUNNING


def test_only_those_that_an_action_fits_are_counted(watched: FleetService, dashboard: Dashboard) -> None:
    ended = [watched.ask(user="ulf", params=SHORT) for _ in range(2)]
    for job in ended:
        watched.reaches(job, DONE)
    open_ = [watched.ask("WAIT", user="ulf") for _ in range(3)]
    since = watched.job(ended[0])["created_ms"]
    dashboard.go(f"jobs?user=ulf&from_ms={since}")
    expect(dashboard.rows).to_have_count(5)
    dashboard.page.get_by_label("Choose all on this page").check()
    dashboard.button("Cancel").click()
    expect(dashboard.dialog.get_by_role("heading")).to_have_text("Cancel 3 jobs?")
    expect(dashboard.dialog).to_contain_text("Of the 5 jobs, 2 are in a state that this does not fit")
    dashboard.dialog.get_by_role("button", name="Leave it").click()
    dashboard.page.get_by_label("All that match the filter").check()
    dashboard.button("Resume").click()
    expect(dashboard.dialog.get_by_role("button", name="Resume 0 jobs")).to_be_disabled()
    dashboard.dialog.get_by_role("button", name="Leave it").click()
    dashboard.button("Cancel").click()
    expect(dashboard.dialog).to_contain_text("Of the 5 jobs, 2 are in a state that this does not fit")
    dashboard.confirm("Cancel 3 jobs?", "Cancel 3 jobs")
    expect(dashboard.notice).to_contain_text("Cancel sent to 3 jobs")
    for job in open_:
        watched.reaches(job, CANCELLED)


def test_a_notice_can_be_taken_away(watched: FleetService, dashboard: Dashboard) -> None:
    job = watched.ask("WAIT")
    watched.reaches(job, RUNNING)
    dashboard.go(f"jobs/{job}").button("Park").click()
    expect(dashboard.notice).to_have_text("Park requested; the worker holds it at its next token.")
    words, paper = (f"node => getComputedStyle(node).{name}" for name in ("color", "backgroundColor"))
    assert dashboard.notice.get_by_role("status").evaluate(words) != dashboard.notice.evaluate(paper)
    dashboard.page.get_by_role("button", name="Take the notice away").click(timeout=3000)
    expect(dashboard.notice).to_have_attribute("data-empty", "true", timeout=1000)


def test_a_worker_that_is_gone_keeps_its_name(fleet: Processes, context: BrowserContext) -> None:
    worker = fleet.worker()
    service = FleetService(fleet.api(**ENVIRONMENT).http)
    job = service.ask(params=SHORT)
    incarnation = service.reaches(job, DONE)["worker"]
    page = Dashboard(context).enter(service.url, key_of("ann")).go("jobs")
    cell = page.row(job).locator("[data-label=Worker]")
    expect(cell).to_have_text(re.compile(f":{worker.pid}$"))
    expect(cell).to_have_attribute("title", incarnation)
    worker.end()
    expect(cell).to_have_attribute("title", f"Gone; its incarnation was {incarnation}")
    expect(cell).to_have_text(re.compile(f":{worker.pid}$"))
    page.go(f"jobs?worker={incarnation}")
    expect(page.row(job)).to_be_visible()
    expect(page.page.get_by_label("Worker").locator("option:checked")).to_have_text(re.compile(f":{worker.pid}$"))
    page.go("jobs?worker=0123456789abcdef")
    expect(page.page.get_by_label("Worker").locator("option:checked")).to_have_text("gone (01234567…)")


def test_only_a_job_under_way_is_watched(watched: FleetService, dashboard: Dashboard) -> None:
    job = watched.ask("WAIT")
    watched.reaches(job, RUNNING)
    about = dashboard.go(f"jobs/{job}").page.get_by_role("region", name="About it")
    expect(about).to_contain_text("Watched by")
    watched.post(f"jobs/{job}/cancel")
    expect(dashboard.state).to_have_text("cancelled")
    expect(about).not_to_contain_text("Watched by")


@pytest.mark.parametrize("width", [375, 800, 1216, 1280, 1600])
def test_the_moments_of_the_filter_have_room(dashboard: Dashboard, width: int) -> None:
    dashboard.page.set_viewport_size({"width": width, "height": 800})
    dashboard.go("jobs")
    for field in dashboard.page.locator("[type=datetime-local]").all():
        shown = field.bounding_box()
        free = field.evaluate(
            """(node) => {
                const copy = node.cloneNode();
                copy.style.cssText = "position: absolute; width: max-content; min-width: 0";
                node.parentNode.append(copy);
                const { width } = copy.getBoundingClientRect();
                copy.remove();
                return width;
            }"""
        )
        assert shown
        assert shown["width"] >= free > 100
    assert dashboard.page.locator(".filter").evaluate("node => node.scrollWidth - node.clientWidth") == 0


def test_chosen_rows_are_acted_on(watched: FleetService, dashboard: Dashboard) -> None:
    jobs = [watched.ask("WAIT", user="ulf") for _ in range(3)]
    dashboard.go("jobs?user=ulf&state=running")
    expect(dashboard.button("Cancel")).to_be_disabled()
    for job in jobs[:2]:
        dashboard.row(job).get_by_role("checkbox").check()
    expect(dashboard.page.get_by_role("region", name="Act on many jobs")).to_contain_text("2 jobs chosen")
    dashboard.button("Cancel").click()
    dashboard.confirm("Cancel 2 jobs?", "Cancel 2 jobs")
    expect(dashboard.rows).to_have_count(1)
    assert watched.job(jobs[2])["state"] == RUNNING


def test_prompt_and_answer_are_shown_where_allowed(watched: FleetService, dashboard: Dashboard) -> None:
    job = watched.ask("Tell me", params={"max_tokens": 20, "seed": 3})
    watched.reaches(job, DONE)
    dashboard.go(f"jobs/{job}")
    tail = dashboard.page.get_by_role("region", name="The end of the answer")
    expect(tail).to_have_text(expected(20, "Tell me", seed=3).strip())
    dashboard.main.get_by_text("Messages (1)").click()
    expect(dashboard.main.get_by_text("Tell me", exact=True)).to_be_visible()


def test_a_replay_ends_with_the_whole_answer(watched: FleetService, dashboard: Dashboard) -> None:
    job = watched.ask("Again", params={"max_tokens": 40, "seed": 5})
    watched.reaches(job, DONE)
    dashboard.go(f"jobs/{job}")
    dashboard.button("Load the replay").click()
    replayed = dashboard.page.get_by_role("region", name="The replayed answer")
    expect(replayed).to_have_text("")
    dashboard.button("Play").click()
    expect(dashboard.button("Play again")).to_be_visible()
    expect(replayed).to_have_text(expected(40, "Again", seed=5).strip())
    place = dashboard.page.get_by_role("slider", name="Place in the replay")
    place.focus()
    dashboard.page.keyboard.press("Home")
    expect(replayed).to_have_text("")


def test_what_was_done_is_in_the_audit_log(watched: FleetService, dashboard: Dashboard) -> None:
    job = watched.ask("WAIT")
    watched.reaches(job, RUNNING)
    dashboard.go(f"jobs/{job}").button("Cancel").click()
    expect(dashboard.state).to_have_text("cancelled")
    dashboard.page.get_by_role("link", name="Audit").click()
    newest = dashboard.page.locator("tr[data-entry]").first
    expect(newest).to_contain_text("ann")
    expect(newest).to_contain_text("cancel")
    newest.get_by_role("link", name=job[:8]).click()
    expect(dashboard.page).to_have_url(re.compile(f"#/jobs/{job}$"))
