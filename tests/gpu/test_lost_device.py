"""A device that fails in mid-answer ends its worker, not the answers: the supervisor starts it again, and they go on.

On a GPU a kernel really fails; without one the engine is told the same error, and everything around it is real.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ekiden.exit_codes import ENGINE_LOST
from tests.support.lost_device import load
from tests.support.socket import Socket, connected
from tests.support.up import up
from tests.support.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)
TOKENS = 120
QUESTIONS: Sequence[dict[str, Any]] = (
    {"temperature": 0},
    {"temperature": 0.9, "seed": 1},
    {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "seed": 2},
    {"temperature": 0.9, "min_p": 0.02, "repetition_penalty": 1.2, "seed": 3},
)


async def ask(client: Socket) -> list[str]:
    """All answers, asked for at once."""
    jobs = []
    for number, params in enumerate(QUESTIONS):
        jobs.append(await client.chat(f"Question {number}", params={"max_tokens": TOKENS, **params}))
    return [await client.answer(job, timeout_s=120) for job in jobs]


@pytest.mark.parametrize("device", ["cpu", CUDA])
def test_a_lost_device_costs_a_worker_and_no_token(tmp_path: Path, device: str) -> None:
    fault = tmp_path / "fault"

    async def run(url: str) -> tuple[list[str], list[str], list[str]]:
        async with connected(url.replace("http", "ws", 1) + "/v1/chat") as client:
            undisturbed = await ask(client)
            fault.touch()
            before = len(client.frames)
            disturbed = await ask(client)
            return undisturbed, disturbed, [frame["type"] for frame in client.frames[before:]]

    engine = f"{load.__module__}:{load.__name__}"
    with up(tmp_path, EKIDEN_ENGINE=engine, EKIDEN_DEVICE=device, EKIDEN_TEST_FAULT_FILE=str(fault)) as running:
        undisturbed, disturbed, kinds = asyncio.run(run(running.ready()))
        until(lambda: f"ended with status {ENGINE_LOST}; starting it again" in running.text(), what="the restart")
        text = running.text()
    assert disturbed == undisturbed
    assert all(len(answer.split()) == TOKENS for answer in undisturbed)
    assert "moved" in kinds
    assert not fault.exists()
    assert "device_lost" in text
    assert "CUDA error: device-side assert triggered" in text
