"""Runs store commands over redis-py, async for the API and blocking for workers.

One try a call: redis-py would otherwise repeat a write whose reply was lost. Callers own the retry policy.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from ekiden.settings import Settings
from ekiden.store.commands import Command, Commands
from ekiden.store.operator import OperatorCommands
from ekiden.store.types import Policy

T = TypeVar("T")

SOCKET_TIMEOUT_S = 2.0
CONNECT_TIMEOUT_S = 1.0

POOL_CONNECTIONS = 32

# Of a hosted store's maintenance. A pool that listens for them takes a connection that the server has closed for one
# that has news, and hands it out: after a restart of the store every idle one failed its next call.
NO_NOTIFICATIONS = MaintNotificationsConfig(enabled=False)

# What a store that is away, starting, full or in the middle of a change answers with, or none: wait and call again.
STORE_DOWN = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.BusyLoadingError,
    redis.ReadOnlyError,
    redis.OutOfMemoryError,
    redis.exceptions.MasterDownError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
    OSError,
)

# The same of errors that redis-py has no type for: the disk is full, or too few replicas are there.
_UNWRITABLE = ("MISCONF", "NOREPLICAS")
_IN_PIPELINE = "caused error: "  # what redis-py puts in front of an error within a pipeline, behind the command


def store_down(error: Exception) -> bool:
    """Whether this passes when the store is well again; any other error of the store is a fault of ours."""
    unwritable = isinstance(error, redis.RedisError) and reason_of(error).startswith(_UNWRITABLE)
    return unwritable or isinstance(error, STORE_DOWN)


def reason_of(error: Exception) -> str:
    """What the store or the network said, without the command, which holds what users said."""
    return str(error).rpartition(_IN_PIPELINE)[2] or type(error).__name__


@cache
def script_source(name: str) -> str:
    """A script with its libraries (first line `--!include a b`) in front."""
    folder = resources.files("ekiden") / "lua"
    body = (folder / f"{name}.lua").read_text()
    first, _, rest = body.partition("\n")
    libraries = first.removeprefix("--!include").split() if first.startswith("--!include") else []
    return "\n".join([*((folder / "lib" / f"{lib}.lua").read_text() for lib in libraries), rest if libraries else body])


def _scripts(client: Any) -> Callable[[str], Any]:
    """A client's scripts by name, each registered once."""
    return cache(lambda name: client.register_script(script_source(name)))


class Store:
    """The job store for asyncio code."""

    def __init__(self, settings: Settings) -> None:
        # Any: redis-py's annotations are unions over all protocols and decodings.
        # Blocking: more callers than connections wait for one.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            settings.redis_url,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=AsyncRetry(NoBackoff(), 0),
            max_connections=POOL_CONNECTIONS,
            timeout=SOCKET_TIMEOUT_S,
            maint_notifications_config=NO_NOTIFICATIONS,
        )
        self.redis: Any = redis.asyncio.Redis.from_pool(pool)
        self.commands = Commands(settings.key_prefix, Policy.of(settings))
        self.operator = OperatorCommands(settings.key_prefix, Policy.of(settings))
        self.keys = self.commands.keys
        self._script = _scripts(self.redis)

    async def run(self, command: Command[T]) -> T:
        """Call a script. Raises redis.RedisError or OSError (see `store_down`); then the outcome is unknown."""
        script = self._script(command.script)
        return command.parse(await script(keys=[self.keys.prefix], args=command.args))

    async def now_ms(self) -> int:
        """The store's clock, by which every moment in it is. Raises redis.RedisError or OSError."""
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def close(self) -> None:
        await self.redis.aclose()


class BlockingStore:
    """The job store for one thread of a worker."""

    def __init__(self, settings: Settings) -> None:
        self.redis: Any = redis.Redis.from_url(
            settings.redis_url,
            socket_timeout=SOCKET_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            maint_notifications_config=NO_NOTIFICATIONS,
        )
        self.commands = Commands(settings.key_prefix, Policy.of(settings))
        self.keys = self.commands.keys
        self._script = _scripts(self.redis)

    def run(self, command: Command[T]) -> T:
        """Call a script. Raises redis.RedisError or OSError (see `store_down`); then the outcome is unknown."""
        return command.parse(self._script(command.script)(keys=[self.keys.prefix], args=command.args))

    def run_many(self, commands: Sequence[Command[Any]]) -> list[Any]:
        """Call several scripts in one round trip, in order; each reply is parsed, errors are raised.

        All are called again when the server did not know one of them: for scripts that a repetition does not harm.
        """
        try:
            replies = self._pipelined(commands)
        except redis.exceptions.NoScriptError:
            for name in {command.script for command in commands}:
                self.redis.script_load(script_source(name))
            replies = self._pipelined(commands)
        return [command.parse(reply) for command, reply in zip(commands, replies, strict=True)]

    def _pipelined(self, commands: Sequence[Command[Any]]) -> list[Any]:
        with self.redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.evalsha(self._script(command.script).sha, 1, self.keys.prefix, *command.args)
            replies: list[Any] = pipe.execute()
        return replies

    def close(self) -> None:
        self.redis.close()
