"""A program at a pseudo-terminal, for tests of what a person sees and types."""

import fcntl
import os
import select
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

CTRL_C = "\x03"
CTRL_D = "\x04"


class Terminal:
    """One program whose stdin, stdout and stderr are a terminal of its own."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], term: str = "dumb") -> None:
        self.shown = ""
        self._master, slave = os.openpty()
        try:
            self.child = subprocess.Popen(
                command,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={**environment, "TERM": term},
                start_new_session=True,
                # Keys become signals. It makes one system call, so threads of the test cannot deadlock it.
                preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            )
        finally:
            os.close(slave)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def until(self, text: str, after: int = 0, timeout_s: float = 30) -> int:
        """Read until the text is shown at or after a place in `shown`; the place behind it."""
        deadline = time.monotonic() + timeout_s
        while (found := self.shown.find(text, after)) < 0:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} was not shown after {self.shown[:after]!r}: {self.shown[after:]!r}")
        return found + len(text)

    def end(self, timeout_s: float = 30) -> int:
        """Read until the program ends by itself; its exit status."""
        deadline = time.monotonic() + timeout_s
        while self._read(deadline):
            pass
        return self.child.wait(max(0.1, deadline - time.monotonic()))

    def close(self) -> None:
        """End the program if it still runs."""
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self._master)

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # how Linux tells that the last program closed the terminal
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@contextmanager
def terminal(command: Sequence[str], environment: Mapping[str, str], term: str = "dumb") -> Iterator[Terminal]:
    """A program at a terminal for the length of a `with` block."""
    opened = Terminal(command, environment, term)
    try:
        yield opened
    finally:
        opened.close()
