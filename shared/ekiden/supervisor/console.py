"""What the person in front of `ekiden up` sees: children's lines under their names, and our own."""

import os
import sys
from contextlib import suppress

_COLORS = (36, 35, 33, 32, 34)
_NAME_WIDTH = 8


class Console:
    """Writes to stderr; a terminal that is gone does not matter."""

    def __init__(self) -> None:
        self._colors: dict[str, int] = {}
        self._colored = sys.stderr.isatty() and "NO_COLOR" not in os.environ

    def show(self, name: str, line: bytes) -> None:
        """A line of a child's output."""
        color = self._colors.setdefault(name, _COLORS[len(self._colors) % len(_COLORS)])
        label = f"{name:<{_NAME_WIDTH}}"
        if self._colored:
            label = f"\x1b[{color}m{label}\x1b[0m"
        self._write(f"{label} | {line.decode(errors='replace').rstrip()}")

    def say(self, line: str) -> None:
        """A line of our own."""
        self._write(line)

    def announce(self, line: str) -> None:
        """The one line that scripts wait for, on stdout."""
        with suppress(OSError, ValueError):
            print(line, flush=True)  # noqa: T201

    @staticmethod
    def _write(line: str) -> None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)  # noqa: T201
