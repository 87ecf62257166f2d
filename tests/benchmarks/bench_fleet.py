"""What more workers give, and how soon a new one helps, with a fake engine that sleeps as a GPU would compute.

Each worker runs 32 jobs at 50 tokens/s; more jobs than that are under way all the time. Asked: three workers give 2.8
times the tokens/s of one, and from the start of a worker's process to its first claim 1.5 s beyond the load of the
model, of which the fake engine has none (the median of five starts).
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import redis

from ekiden.settings import Settings, load_settings
from ekiden.store import BlockingStore
from tests.benchmarks.common import report
from tests.benchmarks.load import Crowd, Load, loaded, run
from tests.support.processes import Processes, processes
from tests.support.valkey import running_valkey
from tests.support.waiting import until, until_async

FLEETS = (1, 3)
RUNNING = 32
ASKED_JOBS = 40  # for each worker; those beyond its slots wait
TOKENS = (50, 150)
SOCKETS = 40
RAMP_S, SETTLE_S, WINDOW_S = 2.0, 1.0, 10.0
STARTS = 5
ASKED_RATIO = 2.8
ASKED_CLAIM_S = 1.5


async def tokens_per_s(url: str, workers: int) -> float:
    """What comes to the clients of so many workers that are never without work."""
    async with loaded(url, SOCKETS) as load:
        crowd = Crowd(load, TOKENS)
        await crowd.grow(workers * ASKED_JOBS, RAMP_S)
        await asyncio.sleep(SETTLE_S)
        before, begun = load.tokens, time.perf_counter()
        await asyncio.sleep(WINDOW_S)
        rate = (load.tokens - before) / (time.perf_counter() - begun)
        load.on_ended = lambda _: None
        await all_ended(load)
    load.check()
    return rate


async def all_ended(load: Load) -> None:
    """Wait for every answer."""

    async def none_left() -> bool:
        assert not load.failures, load.failures[:3]
        return load.ended == len(load.answers)

    await until_async(none_left, timeout_s=60, what="the end of all jobs")


def fleet_rates(settings: Settings, folder: Path) -> dict[int, float]:
    """Tokens/s by number of workers."""
    rates: dict[int, float] = {}
    for count in FLEETS:
        place = folder / f"fleet-{count}"
        place.mkdir()
        with processes(settings, place) as fleet:
            api = fleet.api()
            for _ in range(count):
                fleet.worker(EKIDEN_TEST_STEP_S="0.02", EKIDEN_MAX_RUNNING=str(RUNNING))
            rates[count] = run(tokens_per_s(api.socket, count))
            print(f"{count} workers: {rates[count]:.0f} tokens/s", file=sys.stderr)
            for child in fleet.children:
                child.end()
    return rates


async def ask_one(url: str) -> bytes:
    """Leave a job in the queue, and return its id."""
    async with loaded(url, 1) as load:
        load.ask(load.lines[0], 1)

        async def accepted() -> bool:
            return bool(load.by_job)

        await until_async(accepted, what="an accepted job")
        return next(iter(load.by_job))


def claim_s(fleet: Processes, url: str) -> float:
    """From the start of a worker's process to the moment the store gave it a job that waited."""
    job = run(ask_one(url)).decode()
    store = BlockingStore(fleet.settings)
    try:
        started = time.time()
        worker = fleet.worker()
        claimed = until(lambda: store.redis.hget(store.keys.job(job), "claimed"), what="the claim")
        assert worker.end() == 0
        return float(claimed) / 1000 - started
    finally:
        store.close()


def start_times(settings: Settings, folder: Path) -> list[float]:
    """Seconds to the first claim, of several starts."""
    with processes(settings, folder) as fleet:
        api = fleet.api()
        return [claim_s(fleet, api.socket) for _ in range(STARTS)]


def main() -> None:
    """Run once and report."""
    with tempfile.TemporaryDirectory() as folder, running_valkey(Path(folder)) as server:
        settings = load_settings(redis_url=server.url, key_prefix="bench")
        starts = start_times(settings, Path(folder))
        print("start → claim, s:", *(f"{one:.2f}" for one in starts), file=sys.stderr)
        with redis.Redis(port=server.port) as store:
            store.flushall()
        rates = fleet_rates(settings, Path(folder))
    one, three = (rates[count] for count in FLEETS)
    missed = [] if three / one >= ASKED_RATIO else ["ratio"]
    missed += [] if median(starts) <= ASKED_CLAIM_S else ["claim_s"]
    figures = {"tokens_per_s": {count: round(rate) for count, rate in rates.items()}, "ratio": round(three / one, 2)}
    report({"benchmark": "fleet", **figures, "start_to_claim_s": [round(one, 3) for one in sorted(starts)]}, missed)


if __name__ == "__main__":
    main()
