"""`ekiden chat` as a program, for tests: run to its end, caught in mid-answer, or at a terminal."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import http
from tests.support.processes import Api
from tests.support.terminal import Terminal, terminal

PROGRAM = "import typer; from ekiden.chat_command import register; app = typer.Typer(); register(app); app()"
COMMAND = (sys.executable, "-c", PROGRAM)


def environment(**extra: str) -> dict[str, str]:
    """Without the settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EKIDEN_")} | extra


def chat(*arguments: str, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command, env = [*COMMAND, *arguments], environment(**extra)
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=env, check=False)


class Running:
    """The command in mid-answer: its first byte is on stdout."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        assert child.stdout is not None
        assert child.stderr is not None
        self.child, self.out, self.err = child, child.stdout, child.stderr
        self.begun = self.out.read(1)

    def end(self) -> tuple[int, str, str]:
        """Wait for its end: status, everything on stdout, everything on stderr."""
        rest, notices = self.child.communicate(timeout=60)
        return self.child.returncode, (self.begun + rest).decode(), notices.decode()


@contextmanager
def running(api: Api, *arguments: str) -> Iterator[Running]:
    """The command in mid-answer for the length of a `with` block."""
    pipe, none = subprocess.PIPE, subprocess.DEVNULL
    command = [*COMMAND, "--url", api.http, *arguments]
    with subprocess.Popen(command, stdin=none, stdout=pipe, stderr=pipe, bufsize=0, env=environment()) as child:
        try:
            yield Running(child)
        finally:
            child.kill()


@contextmanager
def person(api: Api, *arguments: str, term: str = "dumb") -> Iterator[Terminal]:
    """The command at a terminal for the length of a `with` block; answers take seed 1."""
    with terminal([*COMMAND, "--url", api.http, "--seed", "1", *arguments], environment(), term) as opened:
        yield opened


def states(api: Api) -> list[str]:
    """The states of all jobs, newest first."""
    return [job["state"] for job in http.get(f"{api.http}/admin/api/jobs").json()["jobs"]]
