"""The faults: what each breaks, and for how long. Each returns when what it broke is whole again."""

import asyncio
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ekiden.broker import queue_key
from tests.chaos.cluster import Cluster
from tests.support.waiting import until_async

Act = Callable[[Cluster, random.Random], Awaitable[None]]

EVERYTHING = "worker api clients"
LINUX = sys.platform == "linux"
DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break a fleet. `parts`: what it breaks, so that two at a time break different things."""

    name: str
    what: str
    act: Act
    parts: frozenset[str]
    moves: bool
    """Whether answers may move to another worker; where not, it is a failure of the run that one does."""

    @property
    def missing(self) -> str | None:
        """Why it cannot be done on this machine."""
        return "only Linux limits another process's files" if self.act is disk_full and not LINUX else None


def some(cluster: Cluster, rng: random.Random) -> int:
    """One of the workers."""
    return rng.randrange(cluster.size.workers)


async def worker_killed(cluster: Cluster, rng: random.Random) -> None:
    await cluster.replace_worker(some(cluster, rng), signal.SIGKILL)


async def worker_drained(cluster: Cluster, rng: random.Random) -> None:
    await cluster.replace_worker(some(cluster, rng), signal.SIGTERM)


async def worker_frozen(cluster: Cluster, rng: random.Random) -> None:
    number = some(cluster, rng)
    async with cluster.lock(f"worker{number}"):
        cluster.workers[number].send(signal.SIGSTOP)
        await asyncio.sleep(cluster.settings.lease_s + 1)  # the fault itself
        cluster.workers[number].send(signal.SIGCONT)


async def engine_hung(cluster: Cluster, rng: random.Random) -> None:
    await cluster.fail_engine(some(cluster, rng), "hang")


async def engine_lost(cluster: Cluster, rng: random.Random) -> None:
    await cluster.fail_engine(some(cluster, rng), "end")


async def api_killed(cluster: Cluster, rng: random.Random) -> None:
    await cluster.replace_api(rng.randrange(cluster.size.apis), signal.SIGKILL)


async def clients_cut(cluster: Cluster, _rng: random.Random) -> None:
    for relay in cluster.relays:
        relay.cut()


async def triple_death(cluster: Cluster, rng: random.Random) -> None:
    await asyncio.gather(worker_killed(cluster, rng), api_killed(cluster, rng), clients_cut(cluster, rng))


async def store_killed(cluster: Cluster, _rng: random.Random) -> None:
    async with cluster.lock("store"):
        await asyncio.to_thread(cluster.store.stop, signal.SIGKILL)
        await asyncio.to_thread(cluster.store.start)


async def freeze_store(cluster: Cluster, seconds: float) -> None:
    async with cluster.lock("store"):
        cluster.store.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)  # the fault itself
        cluster.store.send(signal.SIGCONT)


async def store_frozen(cluster: Cluster, _rng: random.Random) -> None:
    await freeze_store(cluster, 8.0)


async def store_outages(cluster: Cluster, _rng: random.Random) -> None:
    for tenths in range(3, 31):
        await freeze_store(cluster, tenths / 10)
        await asyncio.sleep(0.5)  # part of the fault: the next outage comes soon


async def connections_killed(cluster: Cluster, _rng: random.Random) -> None:
    for _ in range(20):
        async with cluster.lock("store"):
            await asyncio.to_thread(cluster.store.drop_connections)
        await asyncio.sleep(0.2)  # part of the fault: time to connect again


async def store_far(cluster: Cluster, _rng: random.Random) -> None:
    async with cluster.lock("way"):
        cluster.store_relay.delay_s = 0.1
        await asyncio.sleep(5.0)  # the fault itself
        cluster.store_relay.delay_s = 0.0


async def swallow(cluster: Cluster, seconds: float) -> None:
    async with cluster.lock("way"):
        cluster.store_relay.swallow()
        await asyncio.sleep(seconds)  # the fault itself
        cluster.store_relay.release()


async def store_unreachable(cluster: Cluster, _rng: random.Random) -> None:
    await swallow(cluster, cluster.settings.lease_s + 2)


async def store_full(cluster: Cluster, _rng: random.Random) -> None:
    async with cluster.lock("store"):
        await cluster.ask_store(lambda client: client.config_set("maxmemory", "1mb"))
        await asyncio.sleep(3.0)  # the fault itself
        await cluster.ask_store(lambda client: client.config_set("maxmemory", "0"))


async def disk_full(cluster: Cluster, _rng: random.Random) -> None:
    """The server's files may grow no more: its writes fail as on a full disk, and it refuses commands."""
    from resource import RLIMIT_FSIZE, prlimit  # Linux only

    def unwritable(client: Any) -> bool:
        return bool(client.info("persistence")["aof_last_write_status"] != "ok")

    async def refuses() -> bool:
        return bool(await cluster.ask_store(unwritable))

    async def accepts() -> bool:
        return not await refuses()

    async with cluster.lock("store"):
        assert cluster.store.process is not None
        pid = cluster.store.process.pid
        before = prlimit(pid, RLIMIT_FSIZE)
        prlimit(pid, RLIMIT_FSIZE, (1, before[1]))
        try:
            await until_async(refuses, DEADLINE_S, "a store that cannot write")
            await asyncio.sleep(2.0)  # the fault itself
        finally:
            prlimit(pid, RLIMIT_FSIZE, before)
        await until_async(accepts, DEADLINE_S, "a store that can write")


async def clock_step(cluster: Cluster, rng: random.Random) -> None:
    number = some(cluster, rng)
    clock = cluster.clock_file(number)
    async with cluster.lock(f"worker{number}"):
        for step in ("3600", "-3600", "0"):
            clock.write_text(step)

            async def seen(step: str = step) -> bool:
                return clock.with_suffix(".seen").exists() and clock.with_suffix(".seen").read_text() == step

            await until_async(seen, DEADLINE_S, "a worker that looks at its clock")
            await asyncio.sleep(1.0)  # part of the fault: some beats at this time


async def messages_deleted(cluster: Cluster, _rng: random.Random) -> None:
    key = queue_key(cluster.settings)
    for _ in range(50):
        async with cluster.lock("store"):
            await cluster.ask_store(lambda client: client.delete(key))
        await asyncio.sleep(0.1)  # part of the fault: more messages come


async def messages_refused(cluster: Cluster, _rng: random.Random) -> None:
    """No message can be sent: workers find jobs by their beats alone."""
    async with cluster.lock("store"):
        await cluster.ask_store(lambda client: client.acl_setuser("default", enabled=True, commands=["-lpush"]))
    await asyncio.sleep(5.0)  # the fault itself
    async with cluster.lock("store"):
        await cluster.ask_store(lambda client: client.acl_setuser("default", enabled=True, commands=["+lpush"]))


async def messages_tripled(cluster: Cluster, _rng: random.Random) -> None:
    cluster.send_thrice = True
    await asyncio.sleep(5.0)  # the fault itself
    cluster.send_thrice = False


async def rolling_restart(cluster: Cluster, _rng: random.Random) -> None:
    for number in range(cluster.size.workers):
        await cluster.replace_worker(number, signal.SIGTERM)
    for number in range(cluster.size.apis):
        await cluster.replace_api(number, signal.SIGTERM)


def _fault(name: str, what: str, act: Act, parts: str, *, moves: bool = False) -> Fault:
    return Fault(name, what, act, frozenset(parts.split()), moves)


FAULTS = (
    _fault("worker_killed", "a worker: SIGKILL", worker_killed, "worker", moves=True),
    _fault("worker_drained", "a worker: SIGTERM; it drains and hands over", worker_drained, "worker", moves=True),
    _fault("worker_frozen", "a worker: SIGSTOP past its lease, then SIGCONT", worker_frozen, "worker", moves=True),
    _fault("engine_hung", "a worker's engine hangs", engine_hung, "worker", moves=True),
    _fault("engine_lost", "a worker's engine thread ends", engine_lost, "worker", moves=True),
    _fault("clock_step", "a worker's clock: an hour forward, two hours back", clock_step, "worker"),
    _fault("api_killed", "an API process: SIGKILL", api_killed, "api"),
    _fault("clients_cut", "every client's connection: reset", clients_cut, "clients"),
    _fault("triple_death", "a worker, an API process, all connections at once", triple_death, EVERYTHING, moves=True),
    _fault("store_killed", "the store: SIGKILL, started again from its file", store_killed, "store"),
    _fault("store_frozen", "the store: SIGSTOP for 8 s", store_frozen, "store"),
    _fault("store_outages", "the store: 28 outages of 0.3, 0.4, … 3.0 s", store_outages, "store"),
    _fault("connections_killed", "all connections to the store killed, 20 times", connections_killed, "store"),
    _fault("store_full", "the store: out of memory for 3 s", store_full, "store"),
    _fault("disk_full", "the store: its disk is full for 2 s", disk_full, "store"),
    _fault("store_far", "0.1 s and more each way to the store for 5 s, one worker and one API", store_far, "way"),
    _fault("store_unreachable", "no way to the store past the lease, likewise", store_unreachable, "way", moves=True),
    _fault("messages_deleted", "all Celery messages deleted, for 5 s", messages_deleted, "messages"),
    _fault("messages_refused", "no Celery message can be sent, for 5 s", messages_refused, "messages"),
    _fault("messages_tripled", "each Celery message delivered three times, for 5 s", messages_tripled, "messages"),
    _fault("rolling_restart", "all workers and APIs one by one: SIGTERM", rolling_restart, EVERYTHING, moves=True),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
