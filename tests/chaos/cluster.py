"""A fleet on loopback whose every part can be broken: a persistent store, workers, API processes, relays between."""

import asyncio
import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from ekiden.exit_codes import ENGINE_LOST
from ekiden.keys import Keys
from ekiden.net import reserved_port
from ekiden.settings import Settings, load_settings
from tests.support.processes import Api, Process, Processes, processes, python_path
from tests.support.relay import Relay, relay_to
from tests.support.store_integrity import check_integrity
from tests.support.valkey import ValkeyServer, running_valkey
from tests.support.waiting import until_async

STEPPED_CLOCK = Path(__file__).parents[1] / "support" / "stepped_clock"

ENGINE_STALL_S = 6.0
"""Longer than a worker is frozen for: a frozen worker must come back as a zombie, not end as one that hangs."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a fleet is, and how fast its fake engines go. `extra`: more of all processes' environment."""

    workers: int = 3
    apis: int = 2
    max_running: int = 32
    step_s: float = 0.02
    extra: tuple[tuple[str, str], ...] = ()


class Cluster:
    """The processes of a fleet by their number, and how to break each. Event loop only.

    The last worker and the last API process reach the store over `store_relay`, the others directly. Clients reach
    each API process over its own relay, whose address outlives the process. Take `lock(part)` to break a part alone.
    """

    def __init__(self, size: Size, store: ValkeyServer, children: Processes, store_relay: Relay) -> None:
        self.size = size
        self.store = store
        self.store_relay = store_relay
        self.settings: Settings = children.settings
        self.workers: list[Process] = []
        self.apis: list[Api] = []
        self.relays: list[Relay] = []
        self.ports: list[int] = []
        self.send_thrice = False
        """Every Celery message is to come three times."""
        self.children = children
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._far = {"EKIDEN_REDIS_URL": f"redis://127.0.0.1:{store_relay.port}/0"}

    def lock(self, part: str) -> asyncio.Lock:
        """For one part: `worker0`, `api1`, `store`, …"""
        return self._locks[part]

    @property
    def urls(self) -> list[str]:
        """Where clients connect."""
        return [relay.url for relay in self.relays]

    def clock_file(self, number: int) -> Path:
        """This worker's wall clock is off by the seconds in this file."""
        return self.children.folder / f"clock-{number}"

    def fault_file(self, number: int) -> Path:
        """The engine of this worker fails when the file appears."""
        return self.children.folder / f"fault-{number}"

    async def start_worker(self, number: int) -> Process:
        """A worker in a place of its own; returns when it is registered."""
        self.fault_file(number).unlink(missing_ok=True)
        environment = {
            "EKIDEN_TEST_STEP_S": str(self.size.step_s),
            "EKIDEN_MAX_RUNNING": str(self.size.max_running),
            "EKIDEN_ENGINE_STALL_S": str(ENGINE_STALL_S),
            "EKIDEN_TEST_FAULT_FILE": str(self.fault_file(number)),
            "EKIDEN_TEST_CLOCK_FILE": str(self.clock_file(number)),
            "PYTHONPATH": os.pathsep.join([str(STEPPED_CLOCK), python_path()]),
            **(self._far if number == self.size.workers - 1 else {}),
            **dict(self.size.extra),
        }
        return await asyncio.to_thread(self.children.worker, **environment)

    async def start_api(self, number: int) -> Api:
        """An API process in a place of its own; returns when it is ready."""
        environment = {
            "EKIDEN_PORT": str(self.ports[number]),
            **(self._far if number == self.size.apis - 1 else {}),
            **dict(self.size.extra),
        }
        return await asyncio.to_thread(self.children.api, **environment)

    async def replace_worker(self, number: int, kill: signal.Signals) -> None:
        """End a worker with a signal and start another; under its lock."""
        async with self.lock(f"worker{number}"):
            await self._end(self.workers[number], kill)
            self.workers[number] = await self.start_worker(number)

    async def fail_engine(self, number: int, how: str) -> None:
        """Let a worker's engine fail, wait until the process gives up, and start another; under its lock."""
        async with self.lock(f"worker{number}"):
            self.tell_engine(number, how)
            status = await asyncio.to_thread(self.workers[number].child.wait, 60)
            assert status == ENGINE_LOST, self.workers[number].text()
            self.workers[number] = await self.start_worker(number)

    def tell_engine(self, number: int, how: str) -> None:
        """Put the file that an engine fails by in place, whole."""
        aside = self.fault_file(number).with_suffix(".new")
        aside.write_text(how)
        aside.rename(self.fault_file(number))

    async def replace_api(self, number: int, kill: signal.Signals) -> None:
        """End an API process and start another at the same address; under its lock."""
        async with self.lock(f"api{number}"):
            await self._end(self.apis[number], kill)
            self.apis[number] = await self.start_api(number)

    async def _end(self, process: Process, kill: signal.Signals) -> None:
        process.check()  # it must not have ended by itself
        status = await asyncio.to_thread(process.end, kill)
        # uvicorn ends by the signal that stopped it, once it is done.
        assert status in ((-kill,) if kill is signal.SIGKILL else (0, -kill)), process.text()

    async def ask_store(self, question: Callable[[Any], Any]) -> Any:
        """Call a function with a blocking client of the store, in a thread."""

        def ask() -> Any:
            with redis.Redis(port=self.store.port, socket_timeout=20) as client:
                return question(client)

        return await asyncio.to_thread(ask)

    def check(self) -> None:
        """Every process that should run does."""
        for process in [*self.workers, *self.apis]:
            process.check()

    async def check_store(self) -> Counter[str]:
        """How many keys of each kind an idle store holds, once dead processes are known as such.

        Raises AssertionError when something is left over.
        """
        keys, rest, found = Keys(self.settings.key_prefix), [""], Counter[str]()

        async def consistent() -> bool:
            try:
                found.update(await self.ask_store(lambda client: check_integrity(client, keys)))
            except AssertionError as error:
                rest[0] = str(error)
                return False
            return True

        try:
            await until_async(consistent, 90)
        except TimeoutError:
            raise AssertionError(rest[0]) from None
        return found


@asynccontextmanager
async def running_cluster(folder: Path, size: Size, **overrides: object) -> AsyncIterator[Cluster]:
    """A fleet for the length of an `async with` block; `overrides` are settings of all its processes."""
    async with AsyncExitStack() as stack:
        (folder / "valkey").mkdir(parents=True)
        store = stack.enter_context(running_valkey(folder / "valkey", append_only=True))
        settings = load_settings(redis_url=store.url, key_prefix="chaos", **overrides)
        children = stack.enter_context(processes(settings, folder))
        cluster = Cluster(size, store, children, await stack.enter_async_context(relay_to(store.port)))
        for _ in range(size.apis):
            port = stack.enter_context(reserved_port())
            cluster.ports.append(port)
            cluster.relays.append(await stack.enter_async_context(relay_to(port)))
        cluster.workers += await asyncio.gather(*(cluster.start_worker(number) for number in range(size.workers)))
        cluster.apis += await asyncio.gather(*(cluster.start_api(number) for number in range(size.apis)))
        yield cluster
