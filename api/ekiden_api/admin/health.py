"""The health of the job store, from what it says of itself."""

from typing import Any

import msgspec
from redis.exceptions import ResponseError

from ekiden.store import Store
from ekiden_api.admin.shapes import StoreView

SECTIONS = ("server", "clients", "memory", "persistence", "stats", "keyspace")
NEARLY_FULL = 0.8


async def store_view(store: Store) -> StoreView:
    """Ask the store. Raises redis.RedisError."""
    info: dict[str, Any] = await store.redis.info(*SECTIONS)
    fsync = await _fsync(store) if info.get("aof_enabled") else None
    database = info.get(f"db{store.redis.connection_pool.connection_kwargs.get('db', 0)}", {})
    kind = "valkey" if "valkey_version" in info else "redis"
    view = StoreView(
        server=f"{kind} {info.get(f'{kind}_version', '')}".strip(),
        uptime_s=info.get("uptime_in_seconds", 0),
        memory_bytes=info.get("used_memory", 0),
        memory_peak_bytes=info.get("used_memory_peak", 0),
        memory_limit_bytes=info.get("maxmemory", 0),
        policy=info.get("maxmemory_policy", ""),
        ops_per_s=info.get("instantaneous_ops_per_sec", 0),
        clients=info.get("connected_clients", 0),
        aof=bool(info.get("aof_enabled")),
        aof_ok=info.get("aof_last_write_status", "ok") == "ok" and info.get("aof_last_bgrewrite_status", "ok") == "ok",
        fsync=fsync,
        keys=database.get("keys", 0),
        warnings=[],
    )
    return _with_warnings(view)


async def _fsync(store: Store) -> str | None:
    """Hosted stores refuse CONFIG."""
    try:
        found: dict[str, str] = await store.redis.config_get("appendfsync")
    except ResponseError:
        return None
    return found.get("appendfsync")


def _with_warnings(view: StoreView) -> StoreView:
    warnings = []
    if not view.aof:
        warnings.append("The append-only file is off: a restart of the store loses every job and conversation.")
    if not view.aof_ok:
        warnings.append("The last write of the append-only file failed; look at the store's log and its disk.")
    if view.policy not in ("noeviction", ""):
        warnings.append(f"The policy {view.policy} lets a full store drop jobs; set maxmemory-policy noeviction.")
    if view.memory_limit_bytes and view.memory_bytes > NEARLY_FULL * view.memory_limit_bytes:
        warnings.append("The store is nearly full; full, it refuses new jobs.")
    return msgspec.structs.replace(view, warnings=warnings)
