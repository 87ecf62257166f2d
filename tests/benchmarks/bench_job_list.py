"""How long the list of jobs takes to answer with 100,000 records, over HTTP. Asked: 50 ms at p99.

The records are made by the store's own scripts: jobs of 100 users on two workers, most of them done, some cancelled,
failed, running and queued. Asked is for pages of 50, in random order: the newest, one far back, by state, by user, by
worker, by time, by the beginning of an id, and by what few or none match, which looks through the whole list.
"""

import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from ekiden.settings import Settings, load_settings
from ekiden.store.types import Append, Ending
from ekiden.wire import encode_record
from tests.benchmarks.common import report
from tests.support.processes import processes
from tests.support.store_fleet import Fleet
from tests.support.valkey import running_valkey

RECORDS = 100_000
USERS, WORKERS = 100, ("w1", "w2")
BATCH = 200
QUESTIONS = 2_000
ASKED_MS = 50.0
ENDINGS = [Ending("stop")] * 90 + [Ending("cancelled")] * 9 + [Ending("error", "engine_error", "It failed.")]


def fill(settings: Settings, chance: random.Random) -> None:
    """Make the records; the last batch is left running and queued."""
    numbers = itertools.count()
    with closing(Fleet(settings)) as fleet:
        for name in WORKERS:
            fleet.worker(name)
        for begin in range(0, RECORDS, BATCH):
            for number in itertools.islice(numbers, BATCH):
                fleet.submit(f"{chance.getrandbits(128):032x}", user=f"user{number % USERS}")
            worker = WORKERS[begin // BATCH % 2]
            claims = fleet.claim(worker, BATCH if begin + BATCH < RECORDS else BATCH // 2)
            if begin + BATCH < RECORDS:
                rows = [
                    Append(claim.job, claim.fence, 1, 0, [encode_record(1, "x")], ending=chance.choice(ENDINGS))
                    for claim in claims
                ]
                fleet.store.run(fleet.commands.append(worker, rows))
            fleet.beat(worker)


def questions(chance: random.Random, begun_ms: int, ended_ms: int, cursors: list[int]) -> Iterator[dict[str, Any]]:
    """What operators ask for, for ever."""
    while True:
        moment = chance.randint(begun_ms, ended_ms)
        yield chance.choice(
            [
                {},
                {"cursor": chance.choice(cursors)},
                {"state": chance.choice(["done", "cancelled", "error", "running", "queued", "parked"])},
                {"user": f"user{chance.randrange(USERS)}", "state": chance.choice(["done", "error"])},
                {"worker": chance.choice(WORKERS), "state": "error"},
                {"from_ms": moment, "to_ms": moment + 1000},
                {"id": f"{chance.getrandbits(16):04x}"},
                {"model": "another", "cursor": chance.choice(cursors)},
                {"user": "nobody"},
            ]
        )


def main() -> None:
    """Run once and report."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as name, running_valkey(Path(name)) as store:
        settings = load_settings(redis_url=store.url, key_prefix="bench", queue_wait_s=86_400.0)
        begun = time.time()
        fill(settings, chance)
        print(f"{RECORDS} records in {time.time() - begun:.0f} s", file=sys.stderr)
        with processes(settings, Path(name)) as fleet:
            api = fleet.api()
            with httpx.Client(base_url=api.http, verify=False, timeout=30) as client:
                figures = measure(client, chance, round(1000 * begun), round(1000 * time.time()))
    report(figures, ["p99_ms"] if figures["p99_ms"] > ASKED_MS else [])


def measure(client: httpx.Client, chance: random.Random, begun_ms: int, ended_ms: int) -> dict[str, Any]:
    """Ask, one question after the other."""
    kept = sum(client.get("/admin/api/overview").json()["states"].values())
    assert kept >= 0.99 * RECORDS, kept
    cursors = [1000 * chance.randint(begun_ms, ended_ms) for _ in range(100)]
    times_ms: dict[str, list[float]] = {}
    for asked in itertools.islice(questions(chance, begun_ms, ended_ms, cursors), QUESTIONS):
        before = time.perf_counter()
        answer = client.get("/admin/api/jobs", params={"limit": 50, **asked})
        times_ms.setdefault("+".join(asked) or "newest", []).append(1000 * (time.perf_counter() - before))
        assert answer.status_code == 200, answer.text
    for kind, times in times_ms.items():
        print(f"{kind}: p99 {quantiles(times, n=100)[98]:.1f} ms of {len(times)}", file=sys.stderr)
    cuts = quantiles(itertools.chain(*times_ms.values()), n=100)
    return {"benchmark": "job_list", "records": kept, "p50_ms": round(cuts[49], 1), "p99_ms": round(cuts[98], 1)}


if __name__ == "__main__":
    main()
