"""`python -m ekiden_worker.health`: does a worker of this host serve? Made for the healthcheck of a container.

It asks the store, not the process: a worker that hangs, was fenced or lost the store looks alive from outside.
"""

import asyncio
import socket
import sys

import redis

from ekiden.settings import Settings, SettingsError, load_settings
from ekiden.store import Store
from ekiden.store.fleet import LiveWorker, live_workers

# What Docker knows besides 0; it reserves all others.
UNHEALTHY = 1


def main() -> int:
    """Return 0 while a worker on this host holds its lease; else UNHEALTHY, and one sentence on stderr says why."""
    host = socket.gethostname()
    try:
        workers = asyncio.run(_registered(load_settings()))
    except SettingsError as error:
        return _unhealthy(str(error))
    except (redis.RedisError, OSError) as error:
        return _unhealthy(f"The store cannot be asked: {error}")
    if not any(worker.host == host for worker in workers):
        return _unhealthy(f"No worker on {host} is registered.")
    return 0


async def _registered(settings: Settings) -> list[LiveWorker]:
    store = Store(settings)
    try:
        return await live_workers(store)
    finally:
        await store.close()


def _unhealthy(reason: str) -> int:
    print(reason, file=sys.stderr)  # noqa: T201
    return UNHEALTHY


if __name__ == "__main__":
    sys.exit(main())
