"""Reads who serves: the workers with a valid lease."""

from typing import TYPE_CHECKING, Any

import msgspec

from ekiden.store.types import WorkerFigures

if TYPE_CHECKING:
    from ekiden.store.clients import Store


class LiveWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A registered worker as its last beat left it. `registered` and `beat` are the store's clock, in ms.

    The defaults stand for what a worker of another version does not say.
    """

    incarnation: str
    lease_ms_left: int
    host: str = ""
    pid: int = 0
    model: str = ""
    context_tokens: int = 0
    max_running: int = 0
    device: str = ""
    version: str = ""
    slot: str = ""
    state: str = "ready"
    running: int = 0
    waiting: int = 0
    registered: int = 0
    beat: int | None = None
    libraries: str = ""
    chaos_drills: int = 0
    metrics_port: int = 0
    drain: int = 0
    solo: str | None = None
    figures: WorkerFigures = WorkerFigures()


async def live_workers(store: "Store") -> list[LiveWorker]:
    """Every worker whose lease has not run out. Raises redis.RedisError."""
    now = await store.now_ms()
    leases = await store.redis.zrange(store.keys.workers, 0, -1, withscores=True)
    left = {name.decode(): int(expiry) - now for name, expiry in leases if expiry > now}
    async with store.redis.pipeline(transaction=False) as pipe:
        for incarnation in left:
            pipe.hgetall(store.keys.worker(incarnation))
        records: list[dict[bytes, bytes]] = await pipe.execute()
    found = zip(left.items(), records, strict=True)
    return [worker_of(incarnation, lease, record) for (incarnation, lease), record in found if record]


def worker_of(incarnation: str, lease_ms_left: int, record: dict[bytes, bytes]) -> LiveWorker:
    """A worker as its record tells."""
    figures = record.pop(b"figures", None)
    fields: dict[str, Any] = {name.decode(): value.decode() for name, value in record.items()}
    if figures:
        fields["figures"] = msgspec.msgpack.decode(figures, type=WorkerFigures)
    return msgspec.convert(
        {"incarnation": incarnation, "lease_ms_left": lease_ms_left, **fields}, LiveWorker, strict=False
    )
