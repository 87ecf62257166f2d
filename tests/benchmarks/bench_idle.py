"""What a worker costs that has nothing to do: CPU time of the whole process. Asked: under 2 % of a core."""

import sys
import tempfile
import time
from pathlib import Path

import psutil

from ekiden.settings import DEFAULT_ENGINE, load_settings
from tests.benchmarks.common import report
from tests.support.processes import processes
from tests.support.valkey import running_valkey

SECONDS = 30
ASKED_PERCENT = 2.0


def main() -> None:
    """A real worker with the default model, beating every 250 ms."""
    with tempfile.TemporaryDirectory() as folder, running_valkey(Path(folder)) as store:
        settings = load_settings(redis_url=store.url, key_prefix="bench")
        with processes(settings, Path(folder)) as fleet:
            worker = psutil.Process(fleet.worker(EKIDEN_ENGINE=DEFAULT_ENGINE).pid)
            time.sleep(3)
            before = worker.cpu_times()
            time.sleep(SECONDS)
            after = worker.cpu_times()
    used = after.user + after.system - before.user - before.system
    percent = 100 * used / SECONDS
    print(f"idle worker: {percent:.2f} % of a core", file=sys.stderr)
    report({"benchmark": "idle", "percent_of_a_core": round(percent, 2)}, ["idle"] if percent > ASKED_PERCENT else [])


if __name__ == "__main__":
    main()
