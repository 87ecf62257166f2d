"""From `cancel` sent to the next job started, on a worker with one slot: how soon a cancelled job frees it.

Asked: within one step and 50 ms. A fake engine, a step of 20 ms, over the whole path and back.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from ekiden.settings import load_settings
from tests.benchmarks.common import report
from tests.support.processes import processes
from tests.support.socket import connected
from tests.support.valkey import running_valkey

ROUNDS = 200
STEP_S = 0.02
ASKED_MS = STEP_S * 1000 + 50


async def measure(url: str) -> list[float]:
    """Milliseconds of every round."""
    durations = []
    async with connected(url) as client:
        running = await client.chat("the first", params={"max_tokens": 4000})
        await client.until("delta", running)
        for number in range(ROUNDS):
            following = await client.chat(f"number {number}", params={"max_tokens": 4000})
            sent = time.perf_counter()
            await client.send(type="cancel", job=running)
            await client.until("started", following)
            durations.append((time.perf_counter() - sent) * 1000)
            await client.until("delta", following)
            client.frames.clear()
            running = following
        await client.send(type="cancel", job=running)
        await client.until("done", running)
    return durations


def main() -> None:
    """Run once and report."""
    with tempfile.TemporaryDirectory() as folder, running_valkey(Path(folder)) as store:
        settings = load_settings(redis_url=store.url, key_prefix="bench")
        with processes(settings, Path(folder)) as fleet:
            fleet.worker(EKIDEN_TEST_STEP_S=str(STEP_S), EKIDEN_MAX_RUNNING="1")
            durations = sorted(asyncio.run(measure(fleet.api().socket)))
    p50, p99, longest = median(durations), durations[int(0.99 * len(durations)) - 1], durations[-1]
    print(f"cancel → next job started: p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {longest:.1f} ms", file=sys.stderr)
    figures = {"p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "longest_ms": round(longest, 1)}
    report({"benchmark": "cancel", "rounds": ROUNDS, **figures}, ["p99"] if p99 > ASKED_MS else [])


if __name__ == "__main__":
    main()
