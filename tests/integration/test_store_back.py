"""A store that was away and is back: nobody meets a connection that died with it."""

import asyncio

from ekiden.settings import load_settings
from ekiden.store import Store
from tests.support.valkey import ValkeyServer


def test_every_call_after_a_restart_goes_well(own_valkey: ValkeyServer) -> None:
    async def body() -> None:
        store = Store(load_settings(redis_url=own_valkey.url))
        try:
            await asyncio.gather(*(store.now_ms() for _ in range(40)))
            await asyncio.to_thread(own_valkey.stop)
            await asyncio.to_thread(own_valkey.start)
            assert len(await asyncio.gather(*(store.now_ms() for _ in range(40)))) == 40
        finally:
            await store.close()

    asyncio.run(body())
