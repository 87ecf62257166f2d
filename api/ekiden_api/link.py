"""This process's two lines to the store: the one that listens for frames, and the one that asks and tells."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import redis
import structlog

from ekiden.store import MAX_POLLED_JOBS, Store, reason_of, store_down
from ekiden.store.types import ReplicaInfo
from ekiden_api.hub import Hub

log = structlog.get_logger()

POLL_S = 1.0
FIRST_RETRY_S = 0.05
LAST_RETRY_S = 1.0


class Link:
    """Keeps a hub and the store in agreement, whatever happens to the connection between them."""

    def __init__(self, store: Store, hub: Hub, describe: Callable[[], ReplicaInfo] = ReplicaInfo) -> None:
        """`describe`: what this process says of itself with each renewal."""
        self._store = store
        self._hub = hub
        self._describe = describe
        self._away = False
        self.listening = False
        """The live channel is subscribed."""
        self.telling = False
        """The store took the last renewal of this replica: it can be written."""

    async def listen(self) -> None:
        """Hand every published message to the hub, for ever."""
        retry_s = FIRST_RETRY_S
        while True:
            pubsub = self._store.redis.pubsub()
            try:
                await pubsub.subscribe(self._store.keys.out(self._hub.replica))
                async for message in pubsub.listen():
                    retry_s = FIRST_RETRY_S
                    self._on_message(message)
            except (redis.RedisError, OSError) as error:
                if not self._away:
                    log.warning("store_away", error=reason_of(error))
                self._away = True
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, LAST_RETRY_S)
            finally:
                self.listening = False
                await _close(pubsub)

    def _on_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            try:
                self._hub.dispatch(message["data"])
            except msgspec.DecodeError as error:
                # Of a worker of another version, perhaps: what it said can be read in the store.
                log.warning("frame_not_understood", error=str(error))
                self._hub.distrust()
        elif message["type"] == "subscribe":
            # redis-py subscribes again by itself after a drop; this message is the only sign that frames were missed.
            self.listening = True
            if self._away:
                log.info("store_back")
            self._away = False
            self._hub.distrust()

    async def ask(self) -> None:
        """Once a second, and whenever the hub needs it: renew the replica, ask about jobs, tell who left; for ever."""
        while True:
            # Not wait_for: that of Python 3.11 forgets a cancel that comes with the event, and this loop would not end.
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._hub.changed.wait()
            self._hub.changed.clear()
            try:
                await self._round()
                self.telling = True
            except (redis.RedisError, OSError) as error:
                self.telling = False
                if not store_down(error):
                    raise
                await asyncio.sleep(FIRST_RETRY_S)
                self._hub.changed.set()

    async def _round(self) -> None:
        questions = list(self._hub.questions())
        # Also with no question: the poll renews the replica's lease.
        for start in range(0, max(1, len(questions)), MAX_POLLED_JOBS):
            some = questions[start : start + MAX_POLLED_JOBS]
            reply = await self._store.run(self._store.commands.poll(self._hub.replica, some, self._describe()))
            for snapshot in reply.changed:
                self._hub.apply(snapshot)
            for lost in reply.missing:
                self._hub.lose(lost)
            if not reply.known and len(self._hub):
                self._hub.distrust()
        while (job := self._hub.detach_next()) is not None:
            done = False
            try:
                await self._store.run(self._store.commands.detach(self._hub.replica, job))
                done = True
            finally:
                self._hub.detached(job, done=done)


async def _for_ever(work: Callable[[], Awaitable[None]]) -> None:
    """Begin again after a fault, visibly: without these two lines every stream of this process would stand still."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("link_failed")
            await asyncio.sleep(LAST_RETRY_S)


async def _close(pubsub: Any) -> None:
    try:
        await pubsub.aclose()
    except (redis.RedisError, OSError) as error:
        log.debug("close_failed", error=type(error).__name__)


@asynccontextmanager
async def linked(store: Store, hub: Hub, describe: Callable[[], ReplicaInfo] = ReplicaInfo) -> AsyncIterator[Link]:
    """Both lines for the length of an `async with` block."""
    link = Link(store, hub, describe)
    tasks = [asyncio.create_task(_for_ever(work)) for work in (link.listen, link.ask)]
    try:
        yield link
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
