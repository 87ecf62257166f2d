"""Workers on vLLM, as a client sees them: a death costs no text."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from ekiden.settings import Settings
from ekiden_worker import vllm_engine
from tests.support.processes import Processes
from tests.support.small_model import vllm_marks
from tests.support.socket import Socket, connected

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(400), *vllm_marks()]

QUESTIONS = [
    "Name three rivers.",
    "What is a noun?",
    "Count to ten.",
    "Who was Bach?",
    "What is rain?",
    "Why is it dark?",
]
PARAMS: dict[str, Any] = {"temperature": 0, "max_tokens": 96}
NAME = f"{vllm_engine.__name__}:{vllm_engine.load.__name__}"


async def answers(client: Socket, jobs: list[str]) -> list[str]:
    return [await client.answer(job, timeout_s=120) for job in jobs]


async def ask(client: Socket) -> list[str]:
    return [await client.chat(question, params=PARAMS) for question in QUESTIONS]


def test_answers_go_on_where_a_killed_worker_was(settings: Settings, fleet_of: Callable[[Settings], Processes]) -> None:
    fleet = fleet_of(settings)
    extra = {"EKIDEN_ENGINE": NAME, "EKIDEN_EAGER": "true", "EKIDEN_DTYPE": "float32"}
    first, _second = fleet.worker(**extra), fleet.worker(**extra)
    url = fleet.api().socket

    async def scenario() -> None:
        async with connected(url) as client:
            undisturbed = await answers(client, await ask(client))
            assert all(undisturbed)
            jobs = await ask(client)
            for job in jobs:
                while client.text(job).count(" ") < 5:
                    await client.receive()
            first.end(signal.SIGKILL)
            assert await answers(client, jobs) == undisturbed
            moved = {frame["job"] for frame in client.frames if frame["type"] == "moved"}
            assert moved
            assert moved < set(jobs), "the other worker's answers stayed"
            for job in jobs:
                [done] = [frame for frame in client.of(job) if frame["type"] == "done"]
                assert done["usage"]["completion_tokens"] <= PARAMS["max_tokens"]

    asyncio.run(scenario())
