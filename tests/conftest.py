"""Fixtures for every layer: a real Valkey for each process of pytest, a key space of its own for each test."""

import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import hypothesis
import pytest

from ekiden.settings import Settings, load_settings
from ekiden.store import BlockingStore
from tests.support.processes import Processes, processes
from tests.support.seeded import EXAMPLES, SEED
from tests.support.store_fleet import Fleet
from tests.support.valkey import ValkeyServer, running_valkey

# What a developer exported must not steer a test.
for _name in [name for name in os.environ if name.startswith("EKIDEN_") and not name.startswith("EKIDEN_TEST_")]:
    del os.environ[_name]
# Nor must a shell that runs the tests in the background: programs would ignore the Ctrl-C that a test sends them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Without a GPU an interpreter runs the kernels. Triton asks for this when it is imported, and transformers imports it.
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"

# No deadline: these machines are shared. `make fuzz` asks for more examples.
hypothesis.settings.register_profile("ekiden", deadline=None, max_examples=EXAMPLES)
hypothesis.settings.load_profile("ekiden")


def pytest_report_header() -> str:
    """What repeats this session's random rounds."""
    return f"random rounds: EKIDEN_TEST_SEED={SEED}"


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """One server for all tests of this process that do not disturb it."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A persistent server for one test that kills or freezes it."""
    folder = tmp_path / "valkey"
    folder.mkdir()
    with running_valkey(folder, append_only=True) as server:
        yield server


@pytest.fixture
def store_url(valkey: ValkeyServer) -> str:
    """URL of the shared server."""
    return valkey.url


@pytest.fixture
def make_settings(store_url: str) -> Callable[..., Settings]:
    """Settings in a key space of this test alone; keyword arguments override."""
    prefix = f"test-{uuid.uuid4().hex[:12]}"

    def make(**overrides: object) -> Settings:
        return load_settings(**{"redis_url": store_url, "key_prefix": prefix, **overrides})

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Default settings in a key space of this test alone."""
    return make_settings()


@pytest.fixture
def store(settings: Settings) -> Iterator[BlockingStore]:
    """The store that the test's processes use."""
    with closing(BlockingStore(settings)) as store:
        yield store


@pytest.fixture
def make_fleet(make_settings: Callable[..., Settings]) -> Iterator[Callable[..., Fleet]]:
    """Players on the store, in a key space of this test alone; keyword arguments override settings."""
    with ExitStack() as stack:

        def make(**overrides: object) -> Fleet:
            return stack.enter_context(closing(Fleet(make_settings(**overrides))))

        yield make


@pytest.fixture
def fleet_of(tmp_path: Path) -> Iterator[Callable[[Settings], Processes]]:
    """Real API and worker processes on the store of given settings."""
    with ExitStack() as stack:

        def start(settings: Settings) -> Processes:
            return stack.enter_context(processes(settings, tmp_path))

        yield start
