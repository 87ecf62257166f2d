"""A real browser, a service whose worker says back what it was told, and one whose keys have roles."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from ekiden.settings import Settings, load_settings
from tests.browser.chromium import ARGUMENTS, chromium
from tests.browser.dashboard import Dashboard
from tests.browser.fleet_service import ENVIRONMENT, FleetService, key_of
from tests.browser.service import Service
from tests.browser.tab import TIMEOUT_MS, Tab
from tests.support.processes import Api, Processes, processes
from tests.support.valkey import ValkeyServer

ECHO_ENGINE = {"EKIDEN_ENGINE": "tests.browser.echo_engine:load", "EKIDEN_TEST_STEP_S": "0.01"}


# Not the session's: while Playwright runs, this thread has a running event loop, and tests elsewhere start their own.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium of the system."""
    path = chromium()
    if path is None:
        pytest.skip("no chromium on PATH (set EKIDEN_TEST_CHROMIUM)")
    expect.set_options(timeout=TIMEOUT_MS)  # an answer takes longer than the default of five seconds
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile of this test alone."""
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture(scope="package")
def shared_api(browser: Browser, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API with one worker for all tests that break neither."""
    settings = load_settings(redis_url=valkey.url, key_prefix="browser")
    with processes(settings, tmp_path_factory.mktemp("browser")) as fleet:
        fleet.worker(**ECHO_ENGINE)
        yield fleet.api()


@pytest.fixture
def fleet(browser: Browser, settings: Settings, fleet_of: Callable[[Settings], Processes]) -> Processes:
    """No processes yet, for tests that start and kill their own."""
    return fleet_of(settings)


@pytest.fixture
def service(shared_api: Api) -> Service:
    """The undisturbed service, where no conversation is kept yet."""
    service = Service(shared_api.http)
    for conversation in service.conversations():
        service.delete(conversation["id"])
    return service


@pytest.fixture
def tab(context: BrowserContext, service: Service) -> Iterator[Tab]:
    """The page in an undisturbed service, where nothing may be complained about."""
    tab = Tab(context).open(service.url)
    yield tab
    assert tab.complaints() == []


@pytest.fixture(scope="package")
def watched_api(browser: Browser, valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API with one worker, for dashboards that break neither. Prompts and answers may be shown."""
    settings = load_settings(redis_url=valkey.url, key_prefix="watched")
    with processes(settings, tmp_path_factory.mktemp("watched")) as fleet:
        fleet.worker()
        yield fleet.api(**ENVIRONMENT, EKIDEN_ADMIN_SHOW_TEXT="true")


@pytest.fixture
def watched(watched_api: Api) -> FleetService:
    """That service, with nothing to do yet."""
    service = FleetService(watched_api.http)
    service.quiet()
    return service


@pytest.fixture
def dashboard(context: BrowserContext, watched: FleetService) -> Iterator[Dashboard]:
    """The dashboard of an admin, where nothing may be complained about."""
    dashboard = Dashboard(context).enter(watched.url, key_of("ann"))
    yield dashboard
    assert dashboard.complaints() == []
