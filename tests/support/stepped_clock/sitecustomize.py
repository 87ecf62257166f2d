"""A process whose wall clock can be stepped: Python imports this at its start where the folder is on its path.

time.time is off by the number of seconds in the file that EKIDEN_TEST_CLOCK_FILE names; the file's twin `.seen` says
which offset was used last. time.monotonic stays, as it does when an operator or NTP sets a clock.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path


def stepped(real: Callable[[], float], file: Path) -> Callable[[], float]:
    """A clock that is off by what the file says."""
    seen = {"offset": "0"}

    def now() -> float:
        offset = (file.read_text() if file.exists() else "0") or seen["offset"]  # empty while it is being written
        if offset != seen["offset"]:
            seen["offset"] = offset
            file.with_suffix(".seen").write_text(offset)
        return real() + float(offset)

    return now


time.time = stepped(time.time, Path(os.environ["EKIDEN_TEST_CLOCK_FILE"]))
