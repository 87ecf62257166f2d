"""The worker's healthcheck, on a real store and real workers."""

import signal
from collections.abc import Callable

import pytest

from ekiden.settings import Settings
from ekiden.store import BlockingStore
from ekiden.store.types import WorkerInfo
from ekiden_worker import health
from tests.support.nowhere import NOWHERE
from tests.support.processes import Processes
from tests.support.waiting import until

StartFleet = Callable[[Settings], Processes]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EKIDEN_REDIS_URL", settings.redis_url)
    monkeypatch.setenv("EKIDEN_KEY_PREFIX", settings.key_prefix)


def test_a_worker_is_healthy_while_it_beats(settings: Settings, fleet_of: StartFleet, capsys: Capture) -> None:
    worker = fleet_of(settings).worker()
    assert (health.main(), capsys.readouterr().err) == (0, "")
    worker.send(signal.SIGSTOP)
    until(lambda: health.main() == health.UNHEALTHY, what="the end of the lease")
    assert "is registered" in capsys.readouterr().err
    worker.send(signal.SIGCONT)
    until(lambda: health.main() == 0, what="a new lease")


def test_a_worker_of_another_host_does_not_count(store: BlockingStore, capsys: Capture) -> None:
    elsewhere = WorkerInfo("elsewhere", 1, "model", 4096, 32, "cpu", "0")
    store.run(store.commands.register("other", elsewhere))
    assert health.main() == health.UNHEALTHY
    assert "is registered" in capsys.readouterr().err


def test_a_store_that_is_away_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("EKIDEN_REDIS_URL", f"redis://{NOWHERE[0]}/0")
    assert health.main() == health.UNHEALTHY
    assert capsys.readouterr().err.startswith("The store cannot be asked: ")


def test_an_unknown_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("EKIDEN_REDIS", "redis://127.0.0.1")
    assert health.main() == health.UNHEALTHY
    assert "EKIDEN_REDIS is not a setting" in capsys.readouterr().err
