"""CPU time of the processes and threads of a benchmark."""

import json
import threading
from pathlib import Path

import psutil

from ekiden.settings import Settings
from ekiden_worker.runtime import Runtime
from tests.support import fake_engine
from tests.support.waiting import until

THREADS_FILE = "EKIDEN_TEST_THREADS_FILE"


def load(settings: Settings) -> Runtime:
    """The fake engine, for EKIDEN_ENGINE, in a worker that writes its threads to the file EKIDEN_TEST_THREADS_FILE.

    The kernel does not know the names that Python gives to threads.
    """
    import os

    file = Path(os.environ[THREADS_FILE])
    threading.Thread(target=_tell_threads, args=(file,), daemon=True).start()
    return fake_engine.load(settings)


def _tell_threads(file: Path) -> None:
    def known() -> dict[str, int | None]:
        found = {thread.name: thread.native_id for thread in threading.enumerate()}
        return found if "io" in found else {}

    file.write_text(json.dumps(until(known, timeout_s=60, what="the IO thread")))


class Clock:
    """CPU seconds used so far, by name; processes by pid, and threads of a process by their id."""

    def __init__(self, pids: dict[str, int], threads: dict[str, tuple[int, int]] | None = None) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._threads = {name: (psutil.Process(pid), thread) for name, (pid, thread) in (threads or {}).items()}

    def read(self) -> dict[str, float]:
        used: dict[str, float] = {}
        for name, process in self._processes.items():
            times = process.cpu_times()
            used[name] = times.user + times.system
        for name, (process, thread) in self._threads.items():
            [found] = [one for one in process.threads() if one.id == thread]
            used[name] = found.user_time + found.system_time
        return used


def between(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """CPU seconds between two readings."""
    return {name: after[name] - before[name] for name in before}
