"""The history that the store keeps in steps (lua/lib/count.lua), read, joined, and turned into plots' columns."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ekiden.store import Store
from ekiden.store.types import ITL_BOUNDS_MS
from ekiden_api.admin.shapes import Latency, Percentiles, Rates, Series, WorkerSeries

WAITS = ("queue", "ttft", "itl")
QUANTILES = (50, 95, 99)
RATES_S, LATENCY_S = 10, 60
SHORT_MS, LONG_MS = 5_000, 60_000
STEPS_A_CALL = 60
READ_AGAIN_MS = 10_000  # a step is still written for a moment after its end, by calls that began within it


@dataclass(frozen=True, slots=True)
class Range:
    """A length of history: from steps of `step_ms`, so many of which are joined to one point."""

    length_ms: int
    step_ms: int
    joined: int


RANGES = {
    "15m": Range(900_000, SHORT_MS, 1),
    "1h": Range(3_600_000, SHORT_MS, 2),
    "24h": Range(86_400_000, LONG_MS, 4),
}


@dataclass(slots=True)
class Step:
    """What was counted in one or more steps, and how things stood in the first of them."""

    counts: Counter[str] = field(default_factory=Counter)
    waits: dict[str, Counter[int]] = field(default_factory=lambda: {wait: Counter() for wait in WAITS})
    gauges: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, fields: dict[bytes, bytes]) -> "Step":
        """As the store keeps it."""
        step = cls()
        for name, value in fields.items():
            kind, _, rest = name.decode().partition(":")
            if kind in WAITS and rest:
                step.waits[kind][int(rest)] += int(value)
            elif kind in ("jobs", "tokens", "moved"):
                step.counts[name.decode()] += int(value)
            else:
                step.gauges[name.decode()] = float(value)
        return step

    @classmethod
    def joined(cls, steps: Iterable["Step"]) -> "Step":
        """Several as one."""
        whole = cls()
        for step in steps:
            whole.counts.update(step.counts)
            for wait, buckets in step.waits.items():
                whole.waits[wait].update(buckets)
            whole.gauges = {**step.gauges, **whole.gauges}
        return whole

    def percentile(self, wait: str, percent: float) -> float | None:
        """A time in ms, within its bucket taken as evenly spread."""
        buckets = self.waits[wait]
        rank, seen = sum(buckets.values()) * percent / 100, 0
        for number in sorted(buckets):
            if seen + buckets[number] >= rank:
                low, high = _bounds(wait, number)
                return round(low + (high - low) * max(0.0, rank - seen) / buckets[number], 1)
            seen += buckets[number]
        return None

    def percentiles(self, wait: str) -> Percentiles:
        """The three that are shown."""
        p50, p95, p99 = (self.percentile(wait, percent) for percent in QUANTILES)
        return Percentiles(p50=p50, p95=p95, p99=p99)


def _bounds(wait: str, number: int) -> tuple[float, float]:
    """From which to which time (ms) a bucket goes."""
    if wait != "itl":
        return 2 ** (number / 4) - 1, 2 ** ((number + 1) / 4) - 1
    low = ITL_BOUNDS_MS[number - 1] if number else 0
    return low, ITL_BOUNDS_MS[number] if number < len(ITL_BOUNDS_MS) else 2 * low


class History:
    """Reads steps; those that are over are kept, so that an open dashboard costs one or two reads a second."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[tuple[int, int], Step] = {}

    async def series(self, name: str, now_ms: int, points: int | None = None) -> Series:
        """The history of a range, or its last points alone. Raises redis.RedisError."""
        span = RANGES[name]
        length = span.step_ms * span.joined
        last = now_ms - now_ms % length
        count = min(points or span.length_ms // length, span.length_ms // length)
        begins = [last - length * (count - 1 - number) for number in range(count)]
        parts = [begin + span.step_ms * part for begin in begins for part in range(span.joined)]
        read = await self.steps(span.step_ms, parts, now_ms)

        def built() -> Series:
            steps = [Step.joined(read[at : at + span.joined]) for at in range(0, len(read), span.joined)]
            return Series(
                range=name,
                step_s=length // 1000,
                now_ms=now_ms,
                times=[begin // 1000 for begin in begins],
                columns=_columns(steps, length // 1000),
                workers=_workers(steps),
            )

        # The whole of it takes some ten milliseconds, for which no stream should wait.
        return built() if points else await asyncio.to_thread(built)

    async def lately(self, now_ms: int) -> tuple[Rates, Latency]:
        """Rates over the last full seconds, and latencies over the last minute. Raises redis.RedisError."""
        last = now_ms - now_ms % SHORT_MS
        begins = [last - SHORT_MS * back for back in range(LATENCY_S * 1000 // SHORT_MS, -1, -1)]
        steps = await self.steps(SHORT_MS, begins, now_ms)
        fresh = Step.joined(steps[-1 - RATES_S * 1000 // SHORT_MS : -1]).counts
        minute = Step.joined(steps)
        ended = sum(number for name, number in fresh.items() if name.startswith("jobs:"))
        rates = Rates(
            tokens_per_s=round(fresh["tokens:completion"] / RATES_S, 1),
            jobs_per_s=round(ended / RATES_S, 2),
            failed_per_min=minute.counts["jobs:error"],
            moved_per_min=minute.counts["moved"],
        )
        ttft, itl, queue = (minute.percentiles(wait) for wait in ("ttft", "itl", "queue"))
        return rates, Latency(ttft_ms=ttft, itl_ms=itl, queue_ms=queue)

    async def steps(self, step_ms: int, begins: Sequence[int], now_ms: int) -> list[Step]:
        """Steps of one length by their beginnings."""
        wanted = [begin for begin in begins if (step_ms, begin) not in self._kept]
        fresh: dict[int, Step] = {}
        for at in range(0, len(wanted), STEPS_A_CALL):
            some = wanted[at : at + STEPS_A_CALL]
            async with self._store.redis.pipeline(transaction=False) as pipe:
                for begin in some:
                    pipe.hgetall(self._store.keys.step(step_ms, begin))
                for begin, fields in zip(some, await pipe.execute(), strict=True):
                    fresh[begin] = Step.of(fields)
                    if begin + step_ms + READ_AGAIN_MS < now_ms:
                        self._kept[step_ms, begin] = fresh[begin]
        self._forget(now_ms)
        return [self._kept.get((step_ms, begin)) or fresh[begin] for begin in begins]

    def _forget(self, now_ms: int) -> None:
        oldest = {span.step_ms: now_ms - span.length_ms - 2 * LONG_MS * span.joined for span in RANGES.values()}
        for step_ms, begin in [key for key in self._kept if key[1] < oldest[key[0]]]:
            del self._kept[step_ms, begin]


def _columns(steps: Sequence[Step], seconds: int) -> dict[str, list[float | None]]:
    columns: dict[str, list[float | None]] = {
        state: [step.gauges.get(state) for step in steps] for state in ("queued", "running", "parked")
    }
    for name, kind in (("tokens_per_s", "completion"), ("prompt_tokens_per_s", "prompt")):
        columns[name] = [round(step.counts[f"tokens:{kind}"] / seconds, 1) for step in steps]
    columns["done"] = [step.counts["jobs:stop"] + step.counts["jobs:length"] for step in steps]
    for name, counted in (("cancelled", "jobs:cancelled"), ("failed", "jobs:error"), ("moved", "moved")):
        columns[name] = [step.counts[counted] for step in steps]
    for wait in WAITS:
        for percent in QUANTILES:
            columns[f"{wait}_p{percent}"] = [step.percentile(wait, percent) for step in steps]
    return columns


def _workers(steps: Sequence[Step]) -> dict[str, WorkerSeries]:
    names = sorted({name[3:] for step in steps for name in step.gauges if name.startswith("kv:")})
    return {
        name: WorkerSeries(
            name=name,
            kv_usage=[step.gauges.get(f"kv:{name}") for step in steps],
            prefix_hit_ratio=[step.gauges.get(f"hit:{name}") for step in steps],
        )
        for name in names
    }
