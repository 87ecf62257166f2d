"""Real processes of Ekiden for tests: started, watched, and ended by pid."""

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from ekiden.net import reserved_port
from ekiden.settings import Settings
from tests.support import http
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
FAKE_ENGINE = {"EKIDEN_ENGINE": "tests.support.fake_engine:load"}


def python_path() -> str:
    """Where children find the tests' modules, and whatever we were told to find."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


class Process:
    """One child with its log."""

    def __init__(self, module: str, settings: Settings, log: Path, extra: Mapping[str, str]) -> None:
        self.log = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EKIDEN_")}
        environment |= {"EKIDEN_REDIS_URL": settings.redis_url, "EKIDEN_KEY_PREFIX": settings.key_prefix}
        environment |= {"PYTHONPATH": python_path(), "EKIDEN_CACHE_DIR": str(settings.cache_dir), **extra}
        with log.open("ab") as file:
            self.child = subprocess.Popen(
                [sys.executable, "-m", module], env=environment, cwd=ROOT, stderr=file, stdout=file
            )

    @property
    def pid(self) -> int:
        return self.child.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.child.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 20) -> int:
        """Send a signal and wait; returns the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.send_signal(number)
        try:
            return self.child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"{self.log.name} did not end:\n{self.text()}") from None

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """Fail when the process has ended."""
        assert self.child.poll() is None, f"{self.log.name} ended with {self.child.returncode}:\n{self.text()}"


class Api(Process):
    """An API process and where it listens; the port is its own until `close`, also while it is dead."""

    def __init__(self, settings: Settings, log: Path, extra: Mapping[str, str]) -> None:
        self._reserved = ExitStack()
        self.port = int(extra.get("EKIDEN_PORT", 0)) or self._reserved.enter_context(reserved_port())
        super().__init__("ekiden_api", settings, log, {"EKIDEN_PORT": str(self.port), **extra})
        self.http = f"http://127.0.0.1:{self.port}"
        self.socket = f"ws://127.0.0.1:{self.port}/v1/chat"

    def close(self) -> None:
        super().close()
        self._reserved.close()

    def ready(self) -> bool:
        """It answers /readyz with 200."""
        self.check()
        try:
            return http.get(f"{self.http}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


class Processes:
    """Starts children and ends those that are left."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.children: list[Process] = []
        self.worker_s = 60.0  # until a worker is registered, at most
        self._numbers = itertools.count()  # its next is atomic: threads may start children side by side

    def worker(self, **extra: str) -> Process:
        """Start a worker with the fake engine unless told otherwise; returns when it is registered."""
        log = self.folder / f"worker-{next(self._numbers)}.log"
        worker = Process("ekiden_worker", self.settings, log, FAKE_ENGINE | extra)
        self.children.append(worker)

        def registered() -> bool:
            worker.check()
            return "registered" in worker.text()

        until(registered, self.worker_s, what="the worker's registration")
        return worker

    def api(self, **extra: str) -> Api:
        """Start an API process; returns when it is ready."""
        api = Api(self.settings, self.folder / f"api-{next(self._numbers)}.log", extra)
        self.children.append(api)
        until(api.ready, timeout_s=30, what="a ready API")
        return api


@contextmanager
def processes(settings: Settings, folder: Path) -> Iterator[Processes]:
    """Children for the length of a `with` block."""
    group = Processes(settings, folder)
    try:
        yield group
    finally:
        for child in group.children:
            child.close()
