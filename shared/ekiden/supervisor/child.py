"""One supervised process: started, its output shown under its name, started again when it dies, ended."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ekiden.exit_codes import CONFIG
from ekiden.lifeline import dies_with_parent
from ekiden.supervisor.console import Console

FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
STEADY_S = 30.0  # a child that lived this long starts its next backoff at the beginning
LAST_WORDS_S = 0.5
READ_BYTES = 1 << 16


class ChildRefused(Exception):
    """A child says that starting it again would fail the same way; its own sentence is on the console."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} cannot run with these settings.")


class Child:
    """Event loop only. `death_signal` is what the kernel sends it when this process is killed.

    `deaths` counts how often `run` saw it end unasked.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        console: Console,
        death_signal: signal.Signals = signal.SIGKILL,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._console = console
        self._death_signal = death_signal
        self._pass_fds = pass_fds
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self.deaths = 0

    @property
    def pid(self) -> int | None:
        """The running process, if there is one."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run_once(self) -> int:
        """Run to its end; returns the exit status, negative for a signal."""
        self._process = await asyncio.create_subprocess_exec(
            *map(str, self._command),
            env=dict(self._environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Its own session: Ctrl-C in the terminal reaches us alone, and we end the children in order.
            start_new_session=True,
            pass_fds=self._pass_fds,
            preexec_fn=dies_with_parent(self._death_signal),
        )
        if self._stopping:
            self.signal(signal.SIGTERM)
        assert self._process.stdout is not None
        showing = asyncio.create_task(self._show(self._process.stdout))
        try:
            return await self._process.wait()
        finally:
            # Not longer: something it started may hold the pipe open.
            await asyncio.wait((showing,), timeout=LAST_WORDS_S)
            showing.cancel()

    async def run(self) -> None:
        """Keep it running until `stop`. Raises ChildRefused when it exits with CONFIG."""
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        while not self._stopping:
            started = loop.time()
            status = await self.run_once()
            if self._stopping:
                return
            if status == CONFIG:
                raise ChildRefused(self.name)
            self.deaths += 1
            if loop.time() - started > STEADY_S:
                backoff_s = FIRST_BACKOFF_S
            self._console.say(f"{self.name} {_ended(status)}; starting it again in {backoff_s:g} s.")
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)

    async def stop(self, grace_s: float) -> None:
        """Ask it to end, insist after `grace_s`; returns when it is gone."""
        self._stopping = True
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            self._console.say(f"{self.name} does not end; killing it.")
            self.signal(signal.SIGKILL)
            await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and what it started."""
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def _show(self, stream: asyncio.StreamReader) -> None:
        rest = b""
        while chunk := await stream.read(READ_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._console.show(self.name, line)
            if len(rest) > READ_BYTES:
                self._console.show(self.name, rest)
                rest = b""
        if rest:
            self._console.show(self.name, rest)


@asynccontextmanager
async def kept_running(children: Sequence[Child], grace_s: float) -> AsyncIterator[None]:
    """Children that run for the length of an `async with` block. Raises an ExceptionGroup of ChildRefused."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child.run()) for child in children]
        try:
            yield
        finally:
            await asyncio.gather(*(child.stop(grace_s) for child in children))
            for task in tasks:  # one may wait for its next start
                task.cancel()


def first_error(error: BaseException) -> BaseException:
    """The first of the errors in a group, however deep."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def python_module(module: str) -> list[str]:
    """The command line that runs a module with this interpreter."""
    return [sys.executable, "-m", module]


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"
