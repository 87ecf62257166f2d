"""API keys: how one looks, and how the store keeps it. A key is shown once, where it is made; its digest is kept."""

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog

from ekiden.roles import Role
from ekiden.store.clients import BlockingStore, Store
from ekiden.store.commands import Command

log = structlog.get_logger()

SECRET_BYTES = 32

_KEY = re.compile(r"ek_([0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_USER = re.compile(r"[^\s:,\x00-\x1f\x7f]{1,64}")


class KeyRecord(msgspec.Struct, frozen=True):
    """A key as it is kept, without its id. `created_ms` is of the store's clock."""

    user: str
    role: Role
    digest: str
    created_ms: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made just now; `text` is what its holder sends."""

    id: str
    text: str = field(repr=False)

    @property
    def digest(self) -> str:
        return digest_of(self.text)


def make_key() -> NewKey:
    """A key that nobody can guess."""
    key_id = secrets.token_hex(4)
    return NewKey(key_id, f"ek_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}")


def digest_of(key: str) -> str:
    """What is kept in place of a key. One round is enough: a secret of 256 random bits cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def id_of(key: str) -> str | None:
    """The id within a key of the store's form."""
    found = _KEY.fullmatch(key)
    return found[1] if found else None


def bearer_key(authorization: str) -> str | None:
    """The key in an Authorization header; None where it holds none."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def is_user_name(name: str) -> bool:
    """Whether a key may be made for this user: 1–64 characters, no blanks, `:` or `,`."""
    return _USER.fullmatch(name) is not None


def create_key(key: NewKey, user: str, role: Role, note: str) -> Command[bool]:
    """Keep a key. False: its id is taken."""
    return Command("key_create", [key.id, user, role.value, key.digest, note], bool)


def revoke_key(key_id: str) -> Command[bool]:
    """Forget a key. False: there is none of this id."""
    return Command("key_revoke", [key_id], bool)


async def read_raw_keys(store: Store) -> dict[bytes, bytes]:
    """The keys as they lie in the store, for who compares before reading. Raises redis.RedisError or OSError."""
    found: dict[bytes, bytes] = await store.redis.hgetall(store.keys.api_keys)
    return found


async def count_keys(store: Store) -> int:
    """How many keys there are. Raises redis.RedisError or OSError."""
    count: int = await store.redis.hlen(store.keys.api_keys)
    return count


def list_keys(store: BlockingStore) -> dict[str, KeyRecord]:
    """Every key by its id, the oldest first. Raises redis.RedisError or OSError."""
    found: dict[bytes, bytes] = store.redis.hgetall(store.keys.api_keys)
    return dict(sorted(decode_keys(found.items()).items(), key=lambda item: item[1].created_ms))


def decode_keys(raw: Iterable[tuple[Any, bytes]]) -> dict[str, KeyRecord]:
    """Records by id. One that cannot be read opens nothing, and locks nobody else out."""
    records = {}
    for key_id, record in raw:
        try:
            records[key_id.decode()] = msgspec.json.decode(record, type=KeyRecord)
        except (msgspec.DecodeError, UnicodeDecodeError):
            log.warning("key_not_understood", key=repr(key_id))
    return records
