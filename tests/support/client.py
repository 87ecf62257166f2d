"""What tests of the client SDK share."""

import asyncio
from collections.abc import Awaitable, Callable

from ekiden.client import Answer, Client
from ekiden.protocol import Message
from tests.support.fake_engine import continued, prompt_after, prompt_ids, text_of


def run(body: Callable[[], Awaitable[None]]) -> None:
    """Run a test's coroutine and see that it left no task behind."""

    async def checked() -> None:
        await body()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left

    asyncio.run(checked())


async def begin(client: Client, tokens: int = 200) -> tuple[Answer, str]:
    """An answer of that many tokens in mid-stream, and its text so far; all of it is `fake_engine.expected(tokens)`."""
    answer = client.chat("Hello", max_tokens=tokens, seed=1)
    return answer, await read_some(answer)


async def read_some(answer: Answer, pieces: int = 5) -> str:
    """The first pieces of text."""
    texts: list[str] = []
    async for text in answer:
        texts.append(text)
        if len(texts) == pieces:
            break
    return "".join(texts)


def next_answer(count: int, *lines: str, seed: int = 1) -> str:
    """What the fake engine says next in a kept conversation of a line, its answer, the next line, and so on."""
    prompt = prompt_ids([Message("user", lines[0])])
    for answer, message in zip(lines[1::2], lines[2::2], strict=True):
        ids = [int(word.removeprefix("w")) for word in answer.split()]
        prompt = prompt_after(prompt, ids, message)
    return text_of(continued(prompt, seed, count))
