"""`ekiden up`: everything comes up, goes on when a part dies, and leaves nothing behind."""

import asyncio
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from websockets.exceptions import InvalidHandshake

from ekiden.exit_codes import CONFIG
from ekiden.net import reserved_port
from ekiden.settings import DEFAULT_ENGINE
from tests.support import http
from tests.support.fake_engine import expected
from tests.support.keys import bearer, keys
from tests.support.metrics import scrape
from tests.support.socket import Socket, connected
from tests.support.up import Up, up, workers
from tests.support.waiting import until

pytestmark = pytest.mark.e2e


def socket_url(url: str) -> str:
    return url.replace("http", "ws", 1) + "/v1/chat"


def talk(url: str, body: Any) -> Any:
    """Run `body(socket)` on a new connection."""

    async def run() -> Any:
        async with connected(socket_url(url)) as client:
            return await body(client)

    return asyncio.run(run())


def chat(url: str, count: int = 20) -> str:
    async def body(client: Socket) -> str:
        job = await client.chat("Hello", params={"max_tokens": count, "seed": 5})
        return await client.answer(job)

    answer: str = talk(url, body)
    return answer


def test_ctrl_c_ends_everything_also_where_sigint_was_ignored(tmp_path: Path) -> None:
    with up(tmp_path, ignore_sigint=True) as running:
        url = running.ready()
        assert chat(url) == expected(20, seed=5)
        assert running.end(signal.SIGINT) == 0
        assert running.nothing_left()
        assert "Traceback" not in running.text()
        assert f"The dashboard of jobs and workers: {url}/admin\n" in running.text()


def test_killing_the_supervisor_leaves_no_process_and_loses_no_accepted_job(tmp_path: Path) -> None:
    async def begin(client: Socket) -> str:
        job = await client.chat("Hello", params={"max_tokens": 400, "seed": 5})
        await client.until("delta", job)
        return job

    async def follow(client: Socket) -> str:
        await client.send(type="attach", job=job, cursor=0)
        return await client.answer(job)

    with up(tmp_path, EKIDEN_TEST_STEP_S="0.02") as first:
        job: str = talk(first.ready(), begin)
        first.end(signal.SIGKILL)
        until(first.nothing_left, what="the end of all children")
    with up(tmp_path) as second:
        assert talk(second.ready(), follow) == expected(400, seed=5)


@pytest.mark.parametrize("part", ["ekiden_worker", "ekiden_api", "valkey-server"])
def test_a_part_that_dies_is_started_again(tmp_path: Path, part: str) -> None:
    async def run(running: Up, url: str) -> None:
        async with connected(socket_url(url)) as client:
            job = await client.chat("Hello", params={"max_tokens": 300, "seed": 5})
            await client.until("delta", job)
            victim = running.look()[part]
            victim.kill()
            if part == "ekiden_api":
                await client.connection.wait_closed()
            else:
                assert await client.answer(job) == expected(300, seed=5)
                return
        while True:
            try:
                async with connected(socket_url(url)) as again:
                    await again.send(type="attach", job=job, cursor=0)
                    assert await again.answer(job) == expected(300, seed=5)
                    return
            except (OSError, InvalidHandshake):
                await asyncio.sleep(0.05)

    with up(tmp_path, EKIDEN_TEST_STEP_S="0.02") as running:
        asyncio.run(run(running, running.ready()))
        assert "starting it again" in running.text()


def test_ready_means_that_every_worker_is_registered(tmp_path: Path) -> None:
    with up(tmp_path, "--workers", "2") as running:
        url = running.ready()
        shown = workers(url)
        assert len(shown) == 2
        children = [child for child in running.look().values() if "ekiden_worker" in child.cmdline()]
        assert {worker["pid"] for worker in shown} == {child.pid for child in children}
        cores = len(psutil.Process().cpu_affinity() or ())
        assert {child.environ()["EKIDEN_THREADS"] for child in children} == {str(max(1, cores // 2))}


def test_the_store_is_private(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        running.ready()
        data = tmp_path / "data"
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert stat.S_IMODE((data / "store" / "server.conf").stat().st_mode) == 0o600
        server = running.look()["valkey-server"]
        [address] = {c.laddr for c in server.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert address.ip == "127.0.0.1"
        with redis.Redis(port=address.port) as client, pytest.raises(redis.AuthenticationError):
            client.ping()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        running.ready()
        with up(tmp_path) as other:
            assert other.process.wait(30) == CONFIG
            assert f"in use by process {running.process.pid}" in other.text()


def test_a_store_that_outlived_its_supervisor_keeps_the_directory(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        running.ready()
        server = running.look()["valkey-server"]
        server.suspend()  # it cannot end when it is told to
        running.end(signal.SIGKILL)
        assert "or its store" in refusal(tmp_path)
        server.resume()
        until(running.nothing_left, what="the end of all children")
    with up(tmp_path) as again:
        again.ready()


def refusal(tmp_path: Path, *options: str, **extra: str) -> str:
    """The one sentence of an `up` that refuses to run."""
    with up(tmp_path, *options, **extra) as running:
        assert running.process.wait(60) == CONFIG
        return running.text()


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    words = refusal(tmp_path, "--model", str(tmp_path / "nowhere"), EKIDEN_ENGINE=DEFAULT_ENGINE)
    assert f"There is no model at {tmp_path / 'nowhere'}." in words
    assert "Traceback" not in words


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert refusal(tmp_path, "--port", str(port)) == f"Cannot listen on 127.0.0.1:{port}: Address already in use.\n"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_network_address_without_keys_is_one_sentence(tmp_path: Path, host: str) -> None:
    words = refusal(tmp_path, "--host", host)
    assert words.count("\n") == 1
    assert "ekiden keys create" in words
    assert "EKIDEN_API_KEYS" in words


def test_a_key_made_before_opens_a_network_address(tmp_path: Path) -> None:
    made = keys("create", "--user", "ada", "--data-dir", str(tmp_path / "data"))
    with up(tmp_path, "--host", "0.0.0.0") as running:
        url = running.ready()
        assert http.get(f"{url}/v1/models").status_code == 401
        assert http.get(f"{url}/v1/models", headers=bearer(made.stdout.strip())).status_code == 200


def test_keys_are_made_while_it_runs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with up(tmp_path) as running:
        url = running.ready()
        assert stat.S_IMODE((data / "store.url").stat().st_mode) == 0o600
        made = keys("create", "--user", "ada", "--role", "viewer", EKIDEN_DATA_DIR=str(data))
        me = http.get(f"{url}/admin/api/me", headers=bearer(made.stdout.strip()))
        assert me.json()["user"] == "ada"
        assert running.end() == 0
    assert not (data / "store.url").exists()
    assert made.stdout[12:40] not in running.text()
    assert "viewer" in keys("list", "--data-dir", str(data)).stdout


def test_an_unknown_setting_is_one_sentence(tmp_path: Path) -> None:
    assert (
        refusal(tmp_path, EKIDEN_MODLE="x") == "EKIDEN_MODLE is not a setting of Ekiden; did you mean EKIDEN_MODEL?\n"
    )


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        running.ready()
        running.look()["ekiden_worker"].suspend()  # it cannot end in order
        running.process.send_signal(signal.SIGINT)
        until(lambda: "again to kill" in running.text())
        assert running.end(signal.SIGINT) == 0
        assert running.nothing_left()


def test_an_external_store_is_used(tmp_path: Path, store_url: str) -> None:
    with up(tmp_path, REDIS_URL=store_url, EKIDEN_KEY_PREFIX=f"up-{os.getpid()}") as running:
        assert chat(running.ready()) == expected(20, seed=5)
        assert "valkey-server" not in running.look()


def test_a_store_that_cannot_start_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "store" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("this is no manifest\n")
    assert "server.log" in refusal(tmp_path)


@contextmanager
def two_ports() -> Iterator[int]:
    """The first of two free ports that follow each other; nobody who takes any port gets them."""
    with ExitStack() as stack:
        while True:
            first = stack.enter_context(reserved_port())
            second = stack.enter_context(socket.socket())
            second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                second.bind(("127.0.0.1", first + 1))
                break
        yield first


def test_each_worker_serves_its_metrics_on_a_port_of_its_own(tmp_path: Path) -> None:
    with two_ports() as first, up(tmp_path, "--workers", "2", EKIDEN_METRICS_PORT=str(first)) as running:
        shown = workers(running.ready())
        assert {row["metrics_port"] for row in shown} == {first, first + 1}
        for row in shown:
            assert scrape(f"http://127.0.0.1:{row['metrics_port']}")("ekiden_slots") > 0
