"""Waiting on conditions instead of sleeping."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout_s: float = 20.0, what: str = "the condition") -> T:
    """Call `condition` until it returns something true, and return that. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.01)
    return value


async def until_async(condition: Callable[[], Awaitable[T]], timeout_s: float = 20.0, what: str = "the condition") -> T:
    """Await `condition()` until it returns something true, and return that. Raises TimeoutError."""
    deadline = time.monotonic() + timeout_s
    while not (value := await condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come true within {timeout_s} s")
        await asyncio.sleep(0.01)
    return value
