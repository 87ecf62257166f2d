"""Reads what the scripts count over the life of a store, and how many jobs wait in it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ekiden.store.clients import Store

ENDS = ("stop", "length", "cancelled", "error")
TOKENS = ("prompt", "completion", "cached")


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the store began: `jobs` that ended, by how; `tokens` of ended jobs, by kind.

    `waiting` is of now: queued jobs by model.
    """

    waiting: Mapping[str, int]
    jobs: Mapping[str, int]
    moved: int
    tokens: Mapping[str, int]


async def read_totals(store: Store, models: Collection[str]) -> Totals:
    """The totals, and the queues of these models. Raises redis.RedisError or OSError."""
    async with store.redis.pipeline(transaction=False) as pipe:
        pipe.hgetall(store.keys.totals)
        for model in models:
            pipe.zcard(store.keys.queue(model))
        found, *waiting = await pipe.execute()
    counts = {name.decode(): int(count) for name, count in found.items()}
    return Totals(
        waiting=dict(zip(models, waiting, strict=True)),
        jobs={end: counts.get(f"jobs:{end}", 0) for end in ENDS},
        moved=counts.get("moved", 0),
        tokens={kind: counts.get(f"tokens:{kind}", 0) for kind in TOKENS},
    )
