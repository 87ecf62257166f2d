"""Brings everything up in order, says when a chat would succeed, and takes everything down again."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path

from ekiden.exit_codes import CONFIG
from ekiden.exposure import check_exposure
from ekiden.net import bind, reserved_port
from ekiden.settings import Settings, SettingsError
from ekiden.supervisor.child import Child, ChildRefused, first_error, kept_running, python_module
from ekiden.supervisor.console import Console
from ekiden.supervisor.data_dir import DataDir, announcing_store, locked_data_dir, slot_name
from ekiden.supervisor.embedded import STORE_GRACE_S, EmbeddedStore
from ekiden.supervisor.readiness import StoreSilent, store_answers, until_ready

SERVE_GRACE_S = 15.0
FETCH_GRACE_S = 2.0


def run(settings: Settings, store_url: str | None) -> int:
    """Run until SIGINT or SIGTERM; without `store_url` with an embedded store. Returns the exit status."""
    console = Console()
    try:
        bind(settings).close()  # a port that is taken is told at once
        asyncio.run(_run(settings, store_url, console))
    except (SettingsError, StoreSilent, ChildRefused) as error:
        console.say(str(error))
        return CONFIG
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # everything has ended; one more Ctrl-C is not about this
    return 0


async def _run(settings: Settings, store_url: str | None, console: Console) -> None:
    """Everything happens in one task, so that a stop is its cancellation, wherever it is."""
    children: list[Child] = []
    serving = asyncio.create_task(_serve(settings, store_url, console, children))
    _on_stop_signals(serving, children, console)
    try:
        await serving
    except asyncio.CancelledError:
        console.say("Stopped.")
    except BaseExceptionGroup as group:  # of the task groups that keep children running
        raise first_error(group) from None


async def _serve(settings: Settings, store_url: str | None, console: Console, children: list[Child]) -> None:
    with locked_data_dir(settings.data_dir) as data_dir, reserved_port() as api_port, reserved_port() as store_port:
        embedded = None if store_url else EmbeddedStore(data_dir, store_port, os.environ, console)
        settings = settings.model_copy(
            update={
                "redis_url": embedded.url if embedded else store_url,
                "port": settings.port or api_port,
                "threads": settings.threads or max(1, _cores() // settings.workers),
            }
        )
        environment = _environment(settings)
        api = Child("api", python_module("ekiden_api"), environment, console)
        workers = [
            Child(
                f"worker-{number}",
                python_module("ekiden_worker"),
                environment | _of_worker(settings, number, slot_name(data_dir.path, number)),
                console,
            )
            for number in range(1, settings.workers + 1)
        ]
        fetch = Child("model", python_module("ekiden_worker.fetch"), environment, console)
        children += [api, *workers, fetch, *([embedded.child] if embedded else [])]
        async with _store_running(embedded, data_dir, settings.redis_url):
            await store_answers(settings, embedded, console)
            await check_exposure(settings, lambda reason: console.say(f"Waiting for the job store: {reason}"))
            await _fetch(fetch)
            async with kept_running([api, *workers], SERVE_GRACE_S):
                url = await until_ready(settings, workers, console)
                console.announce(f"Ready: {url}  ({_summary(settings)}; Ctrl-C stops)")
                console.say(f"In another terminal: {_program()} chat{'' if settings.port == 8000 else f' --url {url}'}")
                console.say(f"The dashboard of jobs and workers: {url}/admin")
                await asyncio.Event().wait()


@asynccontextmanager
async def _store_running(embedded: EmbeddedStore | None, data_dir: DataDir, url: str) -> AsyncIterator[None]:
    """The embedded store, if it is that, and word of where the store is."""
    with announcing_store(data_dir, url):
        async with kept_running([embedded.child], STORE_GRACE_S) if embedded else nullcontext():
            yield


async def _fetch(fetch: Child) -> None:
    """Have the model's files before workers ask for them, so that one download is shown, once."""
    try:
        status = await fetch.run_once()
    finally:
        await fetch.stop(FETCH_GRACE_S)
    if status:
        raise ChildRefused(fetch.name)


def _environment(settings: Settings) -> dict[str, str]:
    """What children get: this environment, with what was decided here on top."""
    decided: Mapping[str, object] = {
        "EKIDEN_REDIS_URL": settings.redis_url,
        "EKIDEN_MODEL": settings.model,
        "EKIDEN_HOST": settings.host,
        "EKIDEN_PORT": settings.port,
        "EKIDEN_THREADS": settings.threads,
        "EKIDEN_READY_NEEDS_WORKER": "true",
    }
    return {**os.environ, **{name: str(value) for name, value in decided.items()}}


def _of_worker(settings: Settings, number: int, slot: str) -> dict[str, str]:
    """What one worker gets besides; the first has the number 1."""
    own = {"EKIDEN_WORKER_SLOT": slot}
    if settings.metrics_port:  # 0 lets each take a free one
        own["EKIDEN_METRICS_PORT"] = str(settings.metrics_port + number - 1)
    return own


def _on_stop_signals(serving: asyncio.Task[None], children: list[Child], console: Console) -> None:
    """The first signal ends everything in order, the second at once. Own handlers: SIGINT may be ignored here."""
    asked = False

    def stop() -> None:
        nonlocal asked
        if not asked:
            asked = True
            console.say("Stopping; press Ctrl-C again to kill.")
            serving.cancel()
            return
        for child in children:
            child.signal(signal.SIGKILL)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup keeps us running
        numbers.append(signal.SIGHUP)
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, stop)


def _cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _program() -> str:
    """How a person in this folder calls the program."""
    invoked = Path(sys.argv[0])
    found = shutil.which("ekiden")
    if invoked.name != "ekiden" or (found and invoked.exists() and invoked.samefile(found)):
        return "ekiden"
    return str(invoked)


def _summary(settings: Settings) -> str:
    return f"{settings.model_name}, {settings.workers} worker{'s' if settings.workers > 1 else ''}"
