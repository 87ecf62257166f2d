"""Browsers that logged in: a cookie in place of a key, of which the store keeps a digest for twelve hours."""

import hmac
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import redis

from ekiden.errors import StoreUnavailable
from ekiden.store import Store
from ekiden.store.api_keys import digest_of
from ekiden_api.key_ring import Key, KeyRing

LIFETIME_S = 12 * 3600
TOKEN_BYTES = 32


class _Record(msgspec.Struct, frozen=True):
    """`proof` ties a session to the key's secret: another key of the same id, as `env-1` can be, does not revive it."""

    key: str
    proof: str


class BrowserSessions:
    """Sessions by their cookie. Every call raises StoreUnavailable when the store does not answer."""

    def __init__(self, store: Store, ring: KeyRing) -> None:
        self._store = store
        self._ring = ring

    async def begin(self, key: Key) -> str:
        """A new session of this key; returns what the cookie holds."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        record = msgspec.json.encode(_Record(key.id, _proof(token, key)))
        with _store_answers():
            await self._store.redis.set(self._name(digest_of(token)), record, ex=LIFETIME_S)
        return token

    async def find(self, token: str) -> Key | None:
        """The key that a cookie stands for, while both are valid."""
        with _store_answers():
            raw = await self._store.redis.get(self._name(digest_of(token)))
        if raw is None:
            return None
        record = msgspec.json.decode(raw, type=_Record)
        key = self._ring.get(record.key)
        return key if key and hmac.compare_digest(record.proof, _proof(token, key)) else None

    async def end(self, token: str) -> None:
        """Forget a session."""
        with _store_answers():
            await self._store.redis.delete(self._name(digest_of(token)))

    async def ended(self, digests: Sequence[str]) -> set[str]:
        """Which of these sessions, named by the digests of their cookies, are over."""
        with _store_answers():
            kept = await self._store.redis.mget([self._name(digest) for digest in digests])
        return {digest for digest, record in zip(digests, kept, strict=True) if record is None}

    def _name(self, digest: str) -> str:
        return self._store.keys.browser_session(digest)


def _proof(token: str, key: Key) -> str:
    return hmac.digest(token.encode(), key.digest.encode(), "sha256").hex()


@contextmanager
def _store_answers() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StoreUnavailable("The job store does not answer; try again.") from error
