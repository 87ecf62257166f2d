"""One worker with the fake engine and one API process, for tests of what speaks to them."""

from collections.abc import Callable

import pytest

from ekiden.settings import Settings
from tests.support.processes import Api, Processes


@pytest.fixture
def fleet(settings: Settings, fleet_of: Callable[[Settings], Processes]) -> Processes:
    """Processes on a store of this test alone; none runs yet."""
    return fleet_of(settings)


@pytest.fixture
def api(fleet: Processes) -> Api:
    """An API process, with a worker behind it."""
    fleet.worker(EKIDEN_TEST_STEP_S="0.005")
    return fleet.api()
