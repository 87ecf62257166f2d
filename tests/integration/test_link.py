"""The API's lines to the store begin and end with their service."""

import asyncio

from ekiden.settings import Settings
from ekiden.store import Store
from ekiden_api.hub import Hub
from ekiden_api.link import linked


def test_its_end_is_not_missed_when_there_is_something_to_ask_at_that_very_moment(settings: Settings) -> None:
    async def body() -> None:
        store, hub = Store(settings), Hub()
        try:
            async with linked(store, hub) as link:
                while not link.telling:
                    await asyncio.sleep(0)
                while hub.changed.is_set():
                    await asyncio.sleep(0)
                hub.changed.set()
        finally:
            await store.close()

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await body()

    asyncio.run(bounded())
