"""The data directory: for its owner alone, and for one supervisor at a time."""

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from ekiden.settings import SettingsError

PATIENCE_S = 5.0
ANNOUNCEMENT = "store.url"


class DataDirInUse(SettingsError):
    """Another process has the directory."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """The directory, and the descriptor that holds its lock: who inherits it holds the lock too."""

    path: Path
    lock: int


@contextmanager
def locked_data_dir(path: Path) -> Iterator[DataDir]:
    """The directory, made if it must be, ours for a `with` block. Raises SettingsError when it cannot be had."""
    path = path.expanduser().absolute()
    try:
        if path.exists() and not path.is_dir():
            raise SettingsError(f"The data directory {path} cannot be used: it is not a directory.")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        lock = (path / "lock").open("a+")
    except OSError as error:
        raise SettingsError(f"The data directory {path} cannot be used: {error.strerror or error}.") from None
    with lock:
        _take(lock, path)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield DataDir(path, lock.fileno())


def _take(lock: TextIO, path: Path) -> None:
    """Lock the file; wait a moment when its holder is dead, as the store that it ran may still be writing."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
        else:
            return
        if _lives(holder) or time.monotonic() > deadline:
            raise DataDirInUse(
                f"The data directory {path} is in use by process {holder or '(unknown)'} or its store; "
                "stop that one, or give another --data-dir."
            )
        time.sleep(0.05)


def _lives(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass  # another user's
    return True


@contextmanager
def announcing_store(data_dir: DataDir, url: str) -> Iterator[None]:
    """Tell other commands of this user, for a `with` block, which store is in use here."""
    file = data_dir.path / ANNOUNCEMENT
    write_private(file, url)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def announced_store(path: Path) -> str | None:
    """The store that is in use in a directory; where the one who told was killed, it may be gone."""
    try:
        return (path / ANNOUNCEMENT).read_text() or None
    except OSError:
        return None


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, not even while it is written."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def slot_name(data_dir: Path, number: int) -> str:
    """A name for the place of one worker that no other running supervisor uses: the lock makes it so."""
    place = f"{socket.gethostname()}:{data_dir}"
    return f"{hashlib.sha256(place.encode()).hexdigest()[:12]}-{number}"
