"""API keys for tests, kept as `ekiden keys` keeps them."""

import os
import subprocess
import sys

from ekiden.roles import Role
from ekiden.store import BlockingStore
from ekiden.store.api_keys import NewKey, create_key, make_key


def kept_key(store: BlockingStore, user: str = "ada", role: Role = Role.USER, note: str = "") -> NewKey:
    """A new key in the store."""
    key = make_key()
    assert store.run(create_key(key, user, role, note))
    return key


def bearer(key: NewKey | str) -> dict[str, str]:
    """The header that gives a key."""
    return {"Authorization": f"Bearer {key if isinstance(key, str) else key.text}"}


def keys(*arguments: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    """Run `ekiden keys` to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("EKIDEN_", "REDIS_URL"))}
    command = [sys.executable, "-m", "ekiden", "keys", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=kept | extra, check=False)
