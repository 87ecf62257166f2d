"""Keeps a service from being open to a network: without a key it listens on loopback alone."""

import asyncio
from collections.abc import Callable

import redis

from ekiden.net import is_loopback
from ekiden.settings import Settings, SettingsError
from ekiden.store import Store, reason_of, store_down
from ekiden.store.api_keys import count_keys

AGAIN_S = 0.5


async def check_exposure(settings: Settings, on_wait: Callable[[str], None]) -> None:
    """Raise SettingsError rather than open the service to a network without keys; call it before anything listens.

    The store may have keys, so one that is away is waited for, for ever: `on_wait` is told the reason, once.
    """
    if is_loopback(settings.host) or settings.api_keys:
        return
    store = Store(settings)
    try:
        count = await _count(store, on_wait)
    finally:
        await store.close()
    if not count:
        raise SettingsError(
            f"EKIDEN_HOST={settings.host} is not loopback: others could connect without a key. "
            "Make one with `ekiden keys create --user NAME --role admin`, or set EKIDEN_API_KEYS=user:key,…"
        )


async def _count(store: Store, on_wait: Callable[[str], None]) -> int:
    told = False
    while True:
        try:
            return await count_keys(store)
        except (redis.RedisError, OSError) as error:
            if not store_down(error):
                raise
            if not told:
                on_wait(reason_of(error))
            told = True
        await asyncio.sleep(AGAIN_S)
