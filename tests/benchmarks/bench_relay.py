"""How many running jobs one API process relays: 500 sockets, a fake engine at 50 tokens/s a job, flushes of 25 ms.

At each level so many jobs run all the time, spread over the sockets and over time; one that ends is followed by
another on its socket. A level holds when no delta of a window is more than 250 ms late, in one of three windows: a
busy moment of a shared machine should not decide. Every text is checked in the end.

Late is what comes behind the job's own schedule: one token each 20 ms, on the earliest line that no delta of the job
came before. A delta's lateness is that of its oldest token, so what is held back to be sent together counts too, and a
late first delta excuses nothing.

Client, API, worker (engine and IO thread) and store share the machine's cores. Asked: 25,000 tokens/s on 2 of them.
CPU time a token is that of the best level.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles

import psutil

from ekiden.settings import load_settings
from tests.benchmarks.common import report
from tests.benchmarks.cpu import THREADS_FILE, Clock, between
from tests.benchmarks.load import Answer, Crowd, Load, loaded, run
from tests.support.processes import processes
from tests.support.valkey import running_valkey
from tests.support.waiting import until

SOCKETS = 500
LEVELS = (300, 500, 700, 900, 1100, 1300, 1500, 1750, 2000)
STEP_S = 0.02
TOKENS = (300, 700)
RAMP_S, SETTLE_S, WINDOW_S = 4.0, 1.0, 6.0
WINDOWS = 3
LATE_MS = 250.0
ASKED_TOKENS_PER_S = 25_000


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen at a level. CPU by process, in microseconds a token; `io_thread` is a part of `worker`."""

    running: int
    tokens_per_s: int
    tokens_a_delta: float
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    us_per_token: dict[str, float]
    cores_busy: float

    @property
    def holds(self) -> bool:
        return self.late_max_ms <= LATE_MS


def lateness_ms(answer: Answer, since: float) -> list[float]:
    """How late each delta was that came after `since`."""
    earliest = min(at - cursor * STEP_S for at, cursor in zip(answer.times, answer.cursors, strict=True))
    before = [0, *answer.cursors[:-1]]
    return [
        1000 * (at - earliest - (cursor + 1) * STEP_S)
        for at, cursor in zip(answer.times, before, strict=True)
        if at >= since
    ]


async def window(load: Load, crowd: Crowd, clock: Clock) -> Window:
    """Let the load run, and measure."""
    tokens, deltas, cpu, machine, since = load.tokens, load.deltas, clock.read(), busy_s(), time.perf_counter()
    unended = [answer for answer in load.answers if not answer.ended]
    asked = len(load.answers)
    await asyncio.sleep(WINDOW_S)
    seconds = time.perf_counter() - since
    tokens, deltas = load.tokens - tokens, load.deltas - deltas
    used, machine = between(cpu, clock.read()), busy_s() - machine
    seen = [answer for answer in (*unended, *load.answers[asked:]) if answer.times]
    late = [ms for answer in seen for ms in lateness_ms(answer, since)]
    cuts = quantiles(late, n=100)
    return Window(
        running=crowd.size,
        tokens_per_s=round(tokens / seconds),
        tokens_a_delta=round(tokens / deltas, 2),
        late_p50_ms=round(cuts[49], 1),
        late_p99_ms=round(cuts[98], 1),
        late_max_ms=round(max(late), 1),
        us_per_token={name: round(1e6 * used_s / tokens, 1) for name, used_s in used.items()},
        cores_busy=round(machine / seconds, 2),
    )


def busy_s() -> float:
    """CPU seconds that all cores together were busy, with whatever."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


async def measure(url: str, clock: Clock) -> list[Window]:
    """The best window of each level, up to the first that does not hold."""
    best: list[Window] = []
    async with loaded(url, SOCKETS) as load:
        crowd = Crowd(load, TOKENS)
        for level in LEVELS:
            await crowd.grow(level, RAMP_S)
            await asyncio.sleep(SETTLE_S)
            found: list[Window] = []
            while len(found) < WINDOWS and not (found and found[-1].holds):
                found.append(await window(load, crowd, clock))
                print(found[-1], file=sys.stderr)
            best.append(min(found, key=lambda one: one.late_max_ms))
            if not best[-1].holds:
                break
        load.on_ended = lambda _: None
    load.check()
    return best


def main() -> None:
    """Run once and report."""
    with tempfile.TemporaryDirectory() as name, running_valkey(Path(name)) as store:
        folder, threads = Path(name), Path(name) / "threads.json"
        settings = load_settings(redis_url=store.url, key_prefix="bench")
        with processes(settings, folder) as fleet:
            worker = fleet.worker(
                EKIDEN_ENGINE="tests.benchmarks.cpu:load",
                EKIDEN_TEST_STEP_S=str(STEP_S),
                EKIDEN_MAX_RUNNING=str(max(LEVELS)),
                EKIDEN_FLUSH_INTERVAL_S="0.025",
                **{THREADS_FILE: str(threads)},
            )
            api = fleet.api()
            assert store.process is not None
            until(threads.exists, what="the worker's threads")
            pids = {"api": api.pid, "worker": worker.pid, "store": store.process.pid, "client": os.getpid()}
            io_thread = json.loads(threads.read_text())["io"]
            best = run(measure(api.socket, Clock(pids, {"io_thread": (worker.pid, io_thread)})))
    held = [one for one in best if one.holds]
    most = held[-1] if held else None
    figures: dict[str, object] = {"benchmark": "relay", "sockets": SOCKETS, "asked_tokens_per_s": ASKED_TOKENS_PER_S}
    figures |= {"most": most and asdict(most), "not_held": None if best[-1].holds else asdict(best[-1])}
    # The rate of a level is that of its jobs, give or take those that are just beginning.
    enough = most is not None and most.tokens_per_s >= 0.99 * ASKED_TOKENS_PER_S
    report(figures, [] if enough else ["tokens_per_s"])


if __name__ == "__main__":
    main()
