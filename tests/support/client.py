"""What tests of the client SDK share."""

import asyncio
from collections.abc import Awaitable, Callable

from ekiden.client import Answer


def run(body: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine and see that it left no task behind."""

    async def checked() -> None:
        await body()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    asyncio.run(checked())


async def read_some(answer: Answer, pieces: int = 5) -> str:
    """The first pieces of text."""
    texts: list[str] = []
    async for text in answer:
        texts.append(text)
        if len(texts) == pieces:
            break
    return "".join(texts)
