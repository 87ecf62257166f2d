"""The data directory: for its owner alone, and for one supervisor at a time."""

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ekiden.settings import SettingsError


@contextmanager
def locked_data_dir(path: Path) -> Iterator[Path]:
    """The directory, made if it must be, ours for a `with` block. Raises SettingsError when it cannot be had."""
    path = path.expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        lock = (path / "lock").open("a+")
    except OSError as error:
        raise SettingsError(f"The data directory {path} cannot be used: {error.strerror or error}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise SettingsError(
                f"The data directory {path} is in use by process {lock.read().strip() or '(unknown)'}; "
                "stop that one, or give another --data-dir."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield path


def slot_name(data_dir: Path, number: int) -> str:
    """A name for the place of one worker that no other running supervisor uses: the lock makes it so."""
    place = f"{socket.gethostname()}:{data_dir}"
    return f"{hashlib.sha256(place.encode()).hexdigest()[:12]}-{number}"
