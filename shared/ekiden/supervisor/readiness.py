"""Waits until a chat would succeed, and says meanwhile what is missing."""

import asyncio
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import httpx
import redis

from ekiden.settings import Settings
from ekiden.store import STORE_DOWN, Store
from ekiden.store.fleet import live_workers
from ekiden.supervisor.child import Child
from ekiden.supervisor.console import Console
from ekiden.supervisor.embedded import EmbeddedStore

POLL_S = 0.05
SAY_EVERY_S = 5.0
FOREIGN_STORE_WAIT_S = 30.0
EMBEDDED_STORE_TRIES = 3

# Where to reach a server that listens on every address.
_REACHABLE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class StoreSilent(Exception):
    """The job store does not answer; the message says which."""


async def store_answers(settings: Settings, embedded: EmbeddedStore | None, console: Console) -> None:
    """Wait for the store. Raises StoreSilent when a foreign one stays silent, or our own cannot start."""
    address = urlsplit(settings.redis_url)
    if not embedded:
        console.say(f"Using the job store at {address.hostname}:{address.port}, as EKIDEN_REDIS_URL or REDIS_URL says.")
    deadline = asyncio.get_running_loop().time() + FOREIGN_STORE_WAIT_S
    store = Store(settings)
    try:
        while True:
            try:
                await store.redis.ping()
            except STORE_DOWN as error:
                reason = str(error) or type(error).__name__
            except redis.RedisError as error:  # it is there, and refuses us
                raise StoreSilent(f"The job store at {address.hostname}:{address.port} refuses: {error}") from None
            else:
                return
            if embedded and embedded.child.deaths >= EMBEDDED_STORE_TRIES:
                raise StoreSilent(f"The embedded job store does not start; its log is {embedded.log}.")
            if not embedded and asyncio.get_running_loop().time() > deadline:
                raise StoreSilent(f"The job store at {address.hostname}:{address.port} does not answer: {reason}")
            await asyncio.sleep(POLL_S)
    finally:
        await store.close()


async def until_ready(settings: Settings, workers: Sequence[Child], console: Console) -> str:
    """Wait until the API answers and every worker of ours is registered; returns the URL for people."""
    host = _REACHABLE.get(settings.host, settings.host)
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"
    loop = asyncio.get_running_loop()
    started = said = loop.time()
    store = Store(settings)
    try:
        # The name that is always allowed: the one it listens on may not be on the list of hosts.
        async with httpx.AsyncClient(base_url=url, headers={"Host": "localhost"}, trust_env=False) as http:
            while missing := await _missing(store, http, workers):
                if loop.time() - said >= SAY_EVERY_S:
                    said = loop.time()
                    console.say(f"waiting for {', '.join(missing)} ({said - started:.0f} s)")
                await asyncio.sleep(POLL_S)
    finally:
        await store.close()
    return url


async def _missing(store: Store, http: httpx.AsyncClient, workers: Sequence[Child]) -> list[str]:
    """Names of what is not there yet."""
    host = socket.gethostname()
    try:
        registered = {worker.pid for worker in await live_workers(store) if worker.host == host}
    except STORE_DOWN:
        return ["store"]
    missing = [worker.name for worker in workers if worker.pid not in registered]
    try:
        ready = (await http.get("/readyz")).status_code == httpx.codes.OK
    except httpx.TransportError:
        ready = False
    return missing if ready or missing else ["api"]
