"""The keys this process lets in: those of the environment, and the store's as it last read them."""

import asyncio
import hmac
from dataclasses import dataclass, field

import redis

from ekiden.errors import StoreUnavailable
from ekiden.net import is_loopback
from ekiden.roles import Role
from ekiden.settings import Settings
from ekiden.store import Store, store_down
from ekiden.store.api_keys import decode_keys, digest_of, id_of, read_raw_keys

_NO_DIGEST = digest_of("")


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret. `id` is `env-N` for the Nth entry of EKIDEN_API_KEYS."""

    id: str
    user: str
    role: Role
    digest: str = field(repr=False)


class KeyRing:
    """Finds keys. Compares them in constant time, and goes on with what it knows while the store is away."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._store = store
        self._may_be_open = is_loopback(settings.host) and not settings.api_keys
        self._configured = {
            f"env-{number}": Key(f"env-{number}", entry.user, entry.role, digest_of(entry.key.get_secret_value()))
            for number, entry in enumerate(settings.api_keys, 1)
        }
        self._raw: dict[bytes, bytes] | None = None  # what `_stored` was read from; None: the store never answered
        self._stored: dict[str, Key] = {}
        self._reading = asyncio.Lock()
        self._tried = float("-inf")
        self._failed = False

    async def find(self, given: str) -> Key | None:
        """The key with this text. Raises StoreUnavailable when only the store could tell."""
        digest = digest_of(given)
        found = None
        for key in self._configured.values():
            if hmac.compare_digest(digest, key.digest):
                found = key
        key_id = id_of(given)
        if found or key_id is None:
            return found
        if key_id not in self._stored:  # made just now, perhaps
            await self.refresh()
        stored = self._stored.get(key_id)
        # Compared also without one, so that the time tells nothing of which ids there are.
        equal = hmac.compare_digest(digest, stored.digest if stored else _NO_DIGEST)
        return stored if equal else None

    def get(self, key_id: str) -> Key | None:
        """The key of this id, as the store was last read."""
        return self._configured.get(key_id) or self._stored.get(key_id)

    async def is_open(self) -> bool:
        """Whether no key is needed: the service is on loopback, and there is none. Raises StoreUnavailable."""
        if self._may_be_open and self._raw is None:
            await self.refresh()
        return self.seems_open()

    def seems_open(self) -> bool:
        """The same, as the store was last read."""
        return self._may_be_open and self._raw is not None and not self._raw

    async def refresh(self) -> None:
        """Read the store's keys; who asks while others wait for a reading shares one. Raises StoreUnavailable."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._reading:
            if self._tried < asked:
                self._tried, self._failed = loop.time(), True
                await self._read()
                self._failed = False
        if self._failed:
            raise StoreUnavailable("The job store does not answer; try again.")

    async def _read(self) -> None:
        try:
            raw = await read_raw_keys(self._store)
        except (redis.RedisError, OSError) as error:
            if not store_down(error):
                raise
            raise StoreUnavailable("The job store does not answer; try again.") from error
        if raw != self._raw:
            self._raw = raw
            records = decode_keys(raw.items())
            self._stored = {name: Key(name, kept.user, kept.role, kept.digest) for name, kept in records.items()}
