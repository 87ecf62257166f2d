"""The job store that a command on this machine is about, whether `ekiden up` runs or not."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import TypeVar

from ekiden.net import reserved_port
from ekiden.settings import Settings, given_store_url
from ekiden.store import STORE_DOWN, BlockingStore
from ekiden.supervisor.child import first_error, kept_running
from ekiden.supervisor.console import Console
from ekiden.supervisor.data_dir import DataDir, DataDirInUse, announced_store, locked_data_dir
from ekiden.supervisor.embedded import STORE_GRACE_S, EmbeddedStore
from ekiden.supervisor.readiness import store_answers

T = TypeVar("T")

PATIENCE_S = 10.0
AGAIN_S = 0.1


async def on_nearest_store(settings: Settings, work: Callable[[BlockingStore], T]) -> T:
    """Call `work`: on the store that EKIDEN_REDIS_URL or REDIS_URL names, else on that of `ekiden up`.

    The latter is started for the while where no `ekiden up` runs in the data directory. Raises SettingsError,
    StoreSilent, redis.RedisError or OSError.
    """
    try:
        async with _nearest(settings) as url:
            with closing(BlockingStore(_at(settings, url))) as store:
                return await asyncio.to_thread(work, store)
    except BaseExceptionGroup as group:  # of the task group that keeps the store running
        raise first_error(group) from None


@asynccontextmanager
async def _nearest(settings: Settings) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        found = given_store_url() or await _running_or_locked(settings, stack)
        yield await _started(settings, found, stack) if isinstance(found, DataDir) else found


async def _running_or_locked(settings: Settings, stack: AsyncExitStack) -> str | DataDir:
    """The URL of the store that runs on the data directory, or the directory, ours until `stack` ends.

    It may be in use without a store that answers, for a moment: `ekiden up` is starting, or another command ends.
    """
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            return stack.enter_context(locked_data_dir(settings.data_dir))
        except DataDirInUse:
            url = announced_store(settings.data_dir)
            if url and _answers(_at(settings, url)):
                return url
            if asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(AGAIN_S)


async def _started(settings: Settings, data_dir: DataDir, stack: AsyncExitStack) -> str:
    """The URL of an embedded store that runs until `stack` ends."""
    console = Console()
    embedded = EmbeddedStore(data_dir, stack.enter_context(reserved_port()), os.environ, console)
    await stack.enter_async_context(kept_running([embedded.child], STORE_GRACE_S))
    await store_answers(_at(settings, embedded.url), embedded, console)
    return embedded.url


def _answers(settings: Settings) -> bool:
    with closing(BlockingStore(settings)) as store:
        try:
            store.redis.ping()
        except STORE_DOWN:
            return False
        return True


def _at(settings: Settings, url: str) -> Settings:
    return settings.model_copy(update={"redis_url": url})
