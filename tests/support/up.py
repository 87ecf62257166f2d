"""A real `ekiden up` for tests, with what it started in sight."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support import http
from tests.support.processes import FAKE_ENGINE, python_path
from tests.support.waiting import until

READY = re.compile(r"^Ready: (http://\S+)", re.MULTILINE)


class Up:
    """One supervisor; its stdout and stderr are in `log`."""

    def __init__(self, data_dir: Path, log: Path, *options: str, ignore_sigint: bool = False, **extra: str) -> None:
        self.log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EKIDEN_")}
        environment = kept | {"PYTHONPATH": python_path()} | extra
        # As a shell starts it in the background: with SIGINT ignored.
        shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh"] if ignore_sigint else []
        command = [*shell, sys.executable, "-m", "ekiden", "up", "--port", "0", "--data-dir", str(data_dir), *options]
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command,
                env=environment,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        self.seen: dict[int, psutil.Process] = {}

    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def ready(self, timeout_s: float = 120) -> str:
        """Wait until a chat would succeed; returns the URL."""

        def announced() -> str | None:
            assert self.process.poll() is None, self.text()
            found = READY.search(self.text())
            return found[1] if found else None

        url = until(announced, timeout_s, what="the Ready line")
        assert url
        self.look()
        return url

    def look(self) -> dict[str, psutil.Process]:
        """Its children by what they run, remembered for `nothing_left`."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            self.seen[child.pid] = child
            words = child.cmdline()
            name = next((word for word in words if word.startswith("ekiden_")), Path(child.exe()).name)
            found[name if name not in found else f"{name}-{child.pid}"] = child
        return found

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit status."""
        self.look()
        self.process.send_signal(number)
        return self.process.wait(60)

    def nothing_left(self) -> bool:
        """All processes it ever showed us are gone."""
        return not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in self.seen.values())


@contextmanager
def up(tmp_path: Path, *options: str, ignore_sigint: bool = False, **extra: str) -> Iterator[Up]:
    """A supervisor for the length of a `with` block, with the fake engine unless told otherwise.

    Its data is kept in `tmp_path` between two of them.
    """
    log = tmp_path / f"up-{len(list(tmp_path.glob('up-*')))}.log"
    started = Up(tmp_path / "data", log, *options, ignore_sigint=ignore_sigint, **(FAKE_ENGINE | extra))
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.look()
            started.process.kill()
            started.process.wait()
        for child in started.seen.values():
            if child.is_running():
                child.kill()


def workers(url: str) -> list[dict[str, object]]:
    """The registered workers as the API shows them."""
    found: list[dict[str, object]] = http.get(f"{url}/admin/api/workers").json()["workers"]
    return found
