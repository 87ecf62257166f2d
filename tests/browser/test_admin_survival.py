"""The page outlives an API process and a reload, and says while its figures are old."""

import signal

from playwright.sync_api import BrowserContext, expect

from tests.browser.dashboard import RUNNING, Dashboard
from tests.browser.fleet_service import ENVIRONMENT, FleetService, key_of
from tests.support.processes import Processes


def test_everything_comes_back_after_the_api_was_killed(fleet: Processes, context: BrowserContext) -> None:
    fleet.worker()
    api = fleet.api(**ENVIRONMENT)
    service = FleetService(api.http)
    first = service.ask("WAIT")
    service.reaches(first, RUNNING)
    tab = Dashboard(context).enter(service.url, key_of("ann")).go("jobs?state=running")
    expect(tab.rows).to_have_count(1)
    api.end(signal.SIGKILL)
    expect(tab.connection).to_have_attribute("data-state", "reconnecting")
    expect(tab.connection).to_contain_text("figures of")
    expect(tab.main).to_have_attribute("data-stale", "true")
    expect(tab.rows).to_have_count(1)
    fleet.api(EKIDEN_PORT=str(api.port), **ENVIRONMENT)
    tab.connected()
    expect(tab.main).to_have_attribute("data-stale", "false")
    second = service.ask("WAIT")
    expect(tab.row(second)).to_be_visible()
    expect(tab.row(first)).to_be_visible()


def test_a_reload_shows_the_same_job(fleet: Processes, context: BrowserContext) -> None:
    fleet.worker()
    service = FleetService(fleet.api(**ENVIRONMENT).http)
    job = service.ask("WAIT")
    tab = Dashboard(context).enter(service.url, key_of("ann")).go(f"jobs/{job}")
    expect(tab.state).to_have_text("running")
    tab.page.reload()
    expect(tab.state).to_have_text("running")
    service.post(f"jobs/{job}/cancel")
    expect(tab.state).to_have_text("cancelled")
    assert tab.complaints() == []


def test_a_revoked_session_leads_to_the_login_page(fleet: Processes, context: BrowserContext) -> None:
    fleet.worker()
    api = fleet.api(**ENVIRONMENT)
    tab = Dashboard(context).enter(api.http, key_of("vic"))
    api.end()
    others = ENVIRONMENT["EKIDEN_API_KEYS"].replace(key_of("vic"), "another-key-0123456789")
    fleet.api(EKIDEN_PORT=str(api.port), EKIDEN_API_KEYS=others)
    expect(tab.page.get_by_label("API key")).to_be_visible()
