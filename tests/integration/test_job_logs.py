"""What real processes log about jobs: events with the same fields, in JSON, and never what users say."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from ekiden.settings import Settings
from tests.support.processes import Process, Processes
from tests.support.socket import connected
from tests.support.waiting import until


def lines(process: Process) -> list[dict[str, Any]]:
    """Every line, each of which is JSON."""
    return [json.loads(line) for line in process.text().splitlines()]


def events(process: Process, job: str) -> list[str]:
    """What was said about a job, in order."""
    return [line["event"] for line in lines(process) if line.get("job") == job]


def test_every_line_about_a_job_names_it_and_its_attempt(
    settings: Settings, fleet_of: Callable[[Settings], Processes]
) -> None:
    fleet = fleet_of(settings)
    extra = {"EKIDEN_LOG_FORMAT": "json", "EKIDEN_LOG_LEVEL": "debug", "EKIDEN_TEST_STEP_S": "0.01"}
    worker, api = fleet.worker(**extra), fleet.api(**extra)

    async def body() -> tuple[str, str, str, str]:
        async with connected(api.socket) as socket:
            done = await socket.chat("a private question", params={"max_tokens": 3})
            await socket.answer(done)
            failed = await socket.chat("private " * 2000)
            await socket.until("error", failed)
            parked = await socket.chat("private", params={"max_tokens": 2000})
            await socket.until("delta", parked)
            await socket.send(type="park", job=parked)
            await socket.until("parked", parked)
            cancelled = await socket.chat("private", params={"max_tokens": 2000})
            await socket.until("delta", cancelled)
            await socket.send(type="cancel", job=cancelled)
            await socket.until("done", cancelled)
            return done, failed, parked, cancelled

    done, failed, parked, cancelled = asyncio.run(body())
    until(lambda: "job_ended" in events(worker, cancelled), what="the last line")
    assert events(api, done) == ["job_accepted"]
    assert events(worker, done) == ["job_claimed", "job_started", "job_ended"]
    assert events(worker, failed) == ["job_claimed", "job_ended"]
    assert events(worker, parked) == ["job_claimed", "job_started", "job_parked"]
    ends = {line["job"]: line for line in lines(worker) if line["event"] == "job_ended"}
    assert (ends[done]["finish"], ends[done]["tokens"], ends[done]["level"]) == ("length", 3, "info")
    assert (ends[failed]["finish"], ends[failed]["code"]) == ("error", "prompt_too_long")
    assert ends[cancelled]["finish"] == "cancelled"
    for line in lines(worker):
        assert ("job" in line) == ("attempt" in line)
    for process in (worker, api):
        assert "private" not in process.text()
