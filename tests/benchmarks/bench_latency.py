"""From `chat` sent to the first delta received, over the whole path with a fake engine: 50 jobs a second.

Asked: p50 ≤ 10 ms and p99 ≤ 30 ms on 2 cores. A step takes 1 ms, so that the path is measured and not the wait for one.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

from ekiden.settings import load_settings
from tests.benchmarks.common import report
from tests.support.processes import processes
from tests.support.socket import Socket, connected
from tests.support.valkey import running_valkey

JOBS_A_SECOND = 50
WARM_UP = 100
JOBS = 1500
TOKENS = 20
ASKED_P50_MS, ASKED_P99_MS = 10.0, 30.0


async def measure(url: str) -> list[float]:
    """Milliseconds from submit to first delta of every job, in open loop: a slow answer does not slow the asking."""
    sent: dict[str, float] = {}
    first: dict[str, float] = {}
    async with connected(url) as client:
        receiving = asyncio.create_task(receive(client, first))
        begun = time.perf_counter()
        for number in range(WARM_UP + JOBS):
            await asyncio.sleep(max(0.0, begun + number / JOBS_A_SECOND - time.perf_counter()))
            sent[str(number)] = time.perf_counter()
            message = {"role": "user", "content": f"question {number}"}
            await client.send(type="chat", id=str(number), messages=[message], params={"max_tokens": TOKENS})
        await asyncio.wait_for(receiving, 60)
    return [(first[str(number)] - sent[str(number)]) * 1000 for number in range(WARM_UP, WARM_UP + JOBS)]


async def receive(client: Socket, first: dict[str, float]) -> None:
    """Note when each request's first delta comes, until all jobs ended."""
    request_of: dict[str, str] = {}
    ended = 0
    while ended < WARM_UP + JOBS:
        frame = await client.receive(60)
        if frame["type"] == "accepted":
            request_of[frame["job"]] = frame["id"]
        elif frame["type"] == "delta":
            first.setdefault(request_of[frame["job"]], time.perf_counter())
        elif frame["type"] in ("done", "error"):
            assert frame["type"] == "done", frame
            ended += 1


def main() -> None:
    """Run once and report."""
    with tempfile.TemporaryDirectory() as folder, running_valkey(Path(folder)) as store:
        settings = load_settings(redis_url=store.url, key_prefix="bench")
        with processes(settings, Path(folder)) as fleet:
            fleet.worker(EKIDEN_TEST_STEP_S="0.001", EKIDEN_MAX_RUNNING="64")
            api = fleet.api()
            durations = asyncio.run(measure(api.socket))
    cuts = quantiles(durations, n=100)
    p50, p99 = cuts[49], cuts[98]
    print(f"submit → first delta, {JOBS_A_SECOND} jobs/s: p50 {p50:.1f} ms, p99 {p99:.1f} ms", file=sys.stderr)
    missed = [name for name, value, asked in (("p50", p50, ASKED_P50_MS), ("p99", p99, ASKED_P99_MS)) if value > asked]
    report({"benchmark": "latency", "jobs": JOBS, "p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}, missed)


if __name__ == "__main__":
    main()
