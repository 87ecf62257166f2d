"""Traces of real processes: from a client's frame through the job's record to the engine's steps."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from ekiden.settings import Settings
from tests.support.collector import Collector, collecting
from tests.support.processes import Processes, python_path
from tests.support.socket import connected
from tests.support.waiting import until

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture
def fleet(settings: Settings, fleet_of: Callable[[Settings], Processes]) -> Processes:
    return fleet_of(settings)


def test_a_trace_leads_from_the_frame_to_the_steps(fleet: Processes, collector: Collector) -> None:
    fleet.worker(**collector.environment)
    api = fleet.api(**collector.environment)

    async def body() -> str:
        async with connected(api.socket, additional_headers={"traceparent": PARENT}) as socket:
            job = await socket.chat(params={"max_tokens": 20})
            await socket.answer(job)
            return job

    job = asyncio.run(body())
    until(lambda: collector.named("chat", job) and collector.named("job", job), what="both processes' spans")
    [chat], [attempt] = collector.named("chat", job), collector.named("job", job)
    assert (chat.service, chat.trace, chat.parent) == ("ekiden-api", PARENT.split("-")[1], PARENT.split("-")[2])
    assert (attempt.service, attempt.trace, attempt.parent) == ("ekiden-worker", chat.trace, chat.id)
    assert attempt.attributes["ekiden.attempt"] == 1
    assert (attempt.attributes["ekiden.tokens"], attempt.attributes["ekiden.outcome"]) == (20, "length")
    prompt, prefill, decode = collector.children(attempt)
    assert [prompt.name, prefill.name, decode.name] == ["prompt", "prefill", "decode"]
    assert attempt.begin_ns <= prompt.end_ns <= prefill.end_ns <= decode.end_ns <= attempt.end_ns
    assert decode.attributes["ekiden.last_step"] == int(decode.attributes["ekiden.first_step"]) + 19
    assert decode.attributes["ekiden.batch_size"] == 1
    assert int(prefill.attributes["ekiden.prompt_tokens"]) > 0
    assert "Hello" not in str(collector.spans)


def test_an_answer_that_moves_is_one_trace(fleet: Processes, collector: Collector) -> None:
    extra = {"EKIDEN_TEST_STEP_S": "0.02", **collector.environment}
    first = fleet.worker(**extra)
    api = fleet.api(**collector.environment)

    async def body() -> str:
        async with connected(api.socket) as socket:
            job = await socket.chat(params={"max_tokens": 100})
            await socket.until("delta", job)
            await asyncio.to_thread(fleet.worker, **extra)
            first.send(signal.SIGKILL)
            await socket.until("moved", job)
            await socket.answer(job)
            return job

    job = asyncio.run(body())
    until(lambda: collector.named("chat", job) and collector.named("job", job), what="both processes' spans")
    [chat] = collector.named("chat", job)
    [attempt] = collector.named("job", job)  # that of the dead worker died with it
    assert (attempt.attributes["ekiden.attempt"], attempt.parent, attempt.trace) == (2, chat.id, chat.trace)


def test_an_attempt_that_a_worker_gives_up_has_its_span(fleet: Processes, collector: Collector) -> None:
    leaving = fleet.worker(EKIDEN_DRAIN_S="0", **collector.environment)
    api = fleet.api(**collector.environment)

    async def body() -> str:
        async with connected(api.socket) as socket:
            job = await socket.chat(params={"max_tokens": 300})
            await socket.until("delta", job)
            await asyncio.to_thread(fleet.worker, **collector.environment)
            await asyncio.to_thread(leaving.end)
            await socket.answer(job)
            return job

    job = asyncio.run(body())
    until(lambda: len(collector.named("job", job)) == 2, what="a span of each attempt")
    one, two = collector.named("job", job)
    assert (one.attributes["ekiden.outcome"], two.attributes["ekiden.outcome"]) == ("moved", "length")
    assert one.trace == two.trace


def test_what_fails_is_marked_with_its_code(fleet: Processes, collector: Collector) -> None:
    fleet.worker(**collector.environment)
    api = fleet.api(**collector.environment)

    async def body() -> str:
        async with connected(api.socket) as socket:
            await socket.send(type="chat", id="x", messages=[{"role": "user", "content": "Hi"}], model="nobody's")
            await socket.until("error")
            job = await socket.chat("Hello " * 2000)
            await socket.until("error", job)
            return job

    job = asyncio.run(body())
    until(lambda: collector.named("job", job) and len(collector.named("chat")) == 2, what="both processes' spans")
    assert collector.named("job", job)[0].error == "prompt_too_long"
    assert "model_not_found" in [chat.error for chat in collector.named("chat")]


@pytest.mark.parametrize("module", ["ekiden_api", "ekiden_worker"])
def test_traces_without_their_packages_are_one_sentence(module: str) -> None:
    hidden = "import sys, runpy; sys.modules['opentelemetry.sdk'] = None; "
    code = f"{hidden}runpy.run_module('{module}', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": python_path(), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
        3,
        "Traces need the package opentelemetry.sdk: pip install 'ekiden[otel]'.\n",
    )
