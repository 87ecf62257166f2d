"""Reads the records of jobs as they lie in the store."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ekiden.jobs import State

if TYPE_CHECKING:
    from ekiden.store.clients import Store

# Field → its name in the store (lua/lib/core.lua), where that is another.
_NAMES = {
    "cursor": "n",
    "priority": "prio",
    "created_ms": "created",
    "claimed_ms": "claimed",
    "first_ms": "first",
    "ended_ms": "ended",
    "finish_reason": "reason",
    "error_code": "code",
    "error_message": "message",
    "cached_tokens": "cached",
    "retokenized_tokens": "retokenized",
    "conversation": "conv",
    "cancel_asked": "cancel",
    "park_asked": "park",
    "abandon_ms": "abandon_at",
}


class Attempt(msgspec.Struct, frozen=True):
    """A claim of a job: by which worker, from which number of tokens on, and when."""

    number: int
    worker: str
    name: str
    tokens: int
    claimed_ms: int


class JobRecord(msgspec.Struct, frozen=True, kw_only=True, rename=_NAMES):
    """A job without its text. Moments are of the store's clock; `owner` is the worker that runs it."""

    id: str
    state: State
    user: str
    model: str
    digest: str
    attempt: int
    deaths: int
    cursor: int
    priority: int
    created_ms: int
    claimed_ms: int | None = None
    first_ms: int | None = None
    ended_ms: int | None = None
    owner: str | None = None
    conversation: str | None = None
    finish_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    retokenized_tokens: int = 0
    retry_of: str | None = None
    cancel_asked: bool = False
    park_asked: bool = False
    parks: int = 0
    on_disconnect: str = "keep"
    abandon_ms: int | None = None
    attempts: list[Attempt] = []


async def read_jobs(store: "Store", jobs: Sequence[str]) -> list[JobRecord | None]:
    """The records of some jobs, None for one without. Raises redis.RedisError."""
    async with store.redis.pipeline(transaction=False) as pipe:
        for job in jobs:
            pipe.hgetall(store.keys.job(job))
        found: list[dict[bytes, bytes]] = await pipe.execute()
    return [record_of(job, fields) if fields else None for job, fields in zip(jobs, found, strict=True)]


async def read_job(store: "Store", job: str) -> JobRecord | None:
    """The record of a job. Raises redis.RedisError."""
    [record] = await read_jobs(store, [job])
    return record


def record_of(job: str, fields: dict[bytes, bytes]) -> JobRecord:
    """The record of a job as it lies in the store."""
    texts: dict[str, Any] = {name.decode(): value.decode() for name, value in fields.items()}
    attempts = [_attempt(number, texts[f"a{number}"]) for number in _numbers(texts)]
    return msgspec.convert({**texts, "id": job, "attempts": attempts}, JobRecord, strict=False)


def _numbers(texts: dict[str, Any]) -> list[int]:
    return sorted(int(name[1:]) for name in texts if name[0] == "a" and name[1:].isdigit())


def _attempt(number: int, text: str) -> Attempt:
    worker, name, tokens, claimed_ms = text.split(" ")
    return Attempt(number, worker, name, int(tokens), int(claimed_ms))
