"""Who sees the dashboard and who acts; keyboard, colours and screens."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.dashboard import OVERFLOW, RUNNING, Dashboard
from tests.browser.fleet_service import FleetService, key_of
from tests.support import http

ACTIONS = re.compile("^(Cancel|Park|Resume|Priority…|Retry|Requeue|Drain.*|Undrain.*|Kill.*|Pause.*)$")


def test_the_login_page_says_what_is_wrong(context: BrowserContext, watched: FleetService) -> None:
    tab = Dashboard(context)
    tab.page.goto(f"{watched.url}/admin#/jobs")
    field = tab.page.get_by_label("API key")
    expect(field).to_be_focused()
    expect(tab.page.get_by_role("heading")).to_have_text("Sign in to the dashboard")
    box = field.bounding_box()
    assert box
    assert 280 <= box["width"] <= 420
    field.fill("no-such-key")
    field.press("Enter")
    expect(tab.page.get_by_role("alert")).to_have_text("The API key is not known.")
    field.fill(key_of("una"))
    field.press("Enter")
    expect(tab.page.get_by_role("alert")).to_contain_text("role viewer")
    field.fill(key_of("vic"))
    field.press("Enter")
    expect(tab.page.get_by_role("heading", name="Jobs", exact=True)).to_be_visible()
    assert tab.page.evaluate("document.cookie") == ""
    tab.page.get_by_role("button", name="Sign out").click()
    expect(field).to_be_visible()


def test_a_viewer_sees_all_and_can_do_nothing(context: BrowserContext, watched: FleetService) -> None:
    job = watched.ask("WAIT for a secret")
    watched.reaches(job, RUNNING)
    tab = Dashboard(context).enter(watched.url, key_of("vic"))
    for view, shown in (("overview", "[data-model]"), ("jobs", "tr[data-job]"), ("workers", "[data-worker]")):
        tab.go(view)
        expect(tab.main.locator(shown).first).to_be_visible()
        expect(tab.button(ACTIONS)).to_have_count(0)
    tab.go(f"jobs/{job}")
    expect(tab.state).to_have_text("running")
    expect(tab.main).to_contain_text("acting needs a key of role admin")
    expect(tab.main).to_contain_text("Hidden.")
    expect(tab.main).not_to_contain_text("secret")
    expect(tab.button(ACTIONS)).to_have_count(0)
    for path, body in (
        (f"jobs/{job}/cancel", {}),
        ("bulk", {"action": "cancel", "filter": {}}),
        ("drills", {"worker": "w"}),
    ):
        assert tab.post(path, body) == 403
    assert watched.job(job)["state"] == RUNNING


def test_another_users_job_is_not_found(watched: FleetService) -> None:
    job = watched.ask("WAIT", user="una")
    for user, status in (("una", 200), ("ulf", 404), ("vic", 404)):
        headers = {"Authorization": f"Bearer {key_of(user)}"}
        assert http.get(f"{watched.url}/v1/jobs/{job}", headers=headers).status_code == status
        assert http.get(f"{watched.url}/admin/api/jobs/{job}", headers=headers).status_code == (
            200 if user == "vic" else 403
        )
    headers = {"Authorization": f"Bearer {key_of('ulf')}"}
    assert http.delete(f"{watched.url}/v1/jobs/{job}", headers=headers).status_code == 404
    assert watched.job(job)["state"] in ("queued", RUNNING)


def test_a_job_that_is_not_there_is_said_so(dashboard: Dashboard) -> None:
    dashboard.go("jobs/" + "0" * 32)
    expect(dashboard.page.get_by_role("alert")).to_contain_text("There is no such job")


def test_the_keyboard_is_enough(watched: FleetService, dashboard: Dashboard) -> None:
    job = watched.ask("WAIT")
    watched.reaches(job, RUNNING)
    keyboard = dashboard.page.keyboard
    dashboard.go("jobs?state=running")
    dashboard.page.reload()
    expect(dashboard.row(job)).to_be_visible()
    keyboard.press("Tab")
    expect(dashboard.page.get_by_role("link", name="To the content")).to_be_focused()
    keyboard.press("Enter")
    expect(dashboard.main).to_be_focused()
    link = dashboard.row(job).get_by_role("link")
    while not link.evaluate("node => node === document.activeElement"):
        keyboard.press("Tab")
    assert dashboard.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    keyboard.press("Enter")
    expect(dashboard.page.get_by_role("heading", name=re.compile("^Job"))).to_be_focused()
    priority = dashboard.button("Priority…")
    while not priority.evaluate("node => node === document.activeElement"):
        keyboard.press("Tab")
    keyboard.press("Enter")
    expect(dashboard.dialog.get_by_label("Priority")).to_be_focused()
    keyboard.press("Escape")
    expect(dashboard.dialog).to_have_count(0)
    expect(priority).to_be_focused()


def test_the_chosen_colours_are_remembered(dashboard: Dashboard) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light = dashboard.page.evaluate(background)
    dashboard.page.get_by_label("Colours").select_option("dark")
    dark = dashboard.page.evaluate(background)
    assert dark != light
    dashboard.page.reload()
    dashboard.connected()
    assert dashboard.page.evaluate(background) == dark
    dashboard.page.emulate_media(color_scheme="dark")
    dashboard.page.get_by_label("Colours").select_option("light")
    assert dashboard.page.evaluate(background) == light


@pytest.mark.parametrize("width", [320, 375])
def test_a_phone_needs_no_sideways_scroll(browser: Browser, watched: FleetService, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 740}, has_touch=True, is_mobile=True)
    job = watched.ask("WAIT")
    watched.reaches(job, RUNNING)
    tab = Dashboard(context).enter(watched.url, key_of("ann"))
    views = {
        "overview": "[data-plot=prefix]",
        "jobs": "tr[data-job]",
        f"jobs/{job}": "tr[data-attempt]",
        "workers": "[data-worker]",
        "audit": "tr[data-entry]",
    }
    for view, shown in views.items():
        tab.go(view)
        expect(tab.main.locator(shown).first).to_be_visible()
        assert tab.page.evaluate(OVERFLOW) == 0, view
    assert tab.complaints() == []
    context.close()
