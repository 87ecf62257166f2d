"""How jobs end when things go wrong: a cancel that races, a job that kills workers, a store without its data."""

import asyncio
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ekiden.client import Answer, Client
from ekiden.errors import JobLost, Poison
from ekiden.jobs import State
from ekiden.keys import Keys
from ekiden.protocol import Message
from tests.chaos.cluster import Cluster, Size, running_cluster
from tests.chaos.faults import worker_killed
from tests.support.fake_engine import expected, expected_ids, text_of
from tests.support.up import up
from tests.support.waiting import until_async

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def client_of(*urls: str) -> Client:
    return Client(urls, give_up_after_s=None, keepalive_s=1.0, on_retry=lambda _retry: None)


@asynccontextmanager
async def small_cluster(folder: Path) -> AsyncIterator[tuple[Cluster, Client]]:
    size = Size(workers=2, apis=1, max_running=16, step_s=0.01)
    async with running_cluster(folder / "fleet", size) as cluster, client_of(*cluster.urls) as client:
        yield cluster, client


async def record(cluster: Cluster, job: str) -> list[bytes]:
    """State and length of a job, as the store has them."""
    key = Keys(cluster.settings.key_prefix).job(job)
    found: list[bytes] = await cluster.ask_store(lambda store: store.hmget(key, "state", "n"))
    return found


def test_a_cancel_that_races_with_the_end_a_death_or_the_prompt_is_one_end(tmp_path: Path) -> None:
    """Whichever write is first wins, and the client, the record and the log say the same."""
    rng = random.Random(5)

    async def cancelled(client: Client, number: int) -> str:
        tokens = rng.randint(1, 40)
        # A prompt that takes seconds to build keeps those behind it from starting: they are cancelled before their own.
        text = f"SLOW {number}" if number == 330 else f"question {number}"
        answer = client.chat(text, max_tokens=tokens, seed=number)
        cancel_in_s = rng.uniform(0, 0.03 * tokens)

        async def cancel() -> None:
            await asyncio.sleep(cancel_in_s)  # anywhere from before the claim to after the end
            await answer.cancel()

        cancelling = asyncio.create_task(cancel())
        said = await answer.text()
        await cancelling
        ids = expected_ids([Message("user", text)], number, tokens)
        assert answer.usage is not None
        assert said == text_of(ids[: answer.usage.completion_tokens])
        assert answer.finish_reason == "cancelled" or answer.usage.completion_tokens == tokens
        return f"{answer.job} {answer.finish_reason} {answer.usage.completion_tokens}"

    async def body() -> None:
        async with small_cluster(tmp_path) as (cluster, client):
            reasons, unstarted = set[str](), 0
            for batch in range(4):
                answers = [cancelled(client, 100 * batch + number) for number in range(60)]
                ends, _ = await asyncio.gather(asyncio.gather(*answers), worker_killed(cluster, rng))
                for end in ends:
                    job, reason, count = end.split()
                    reasons.add(reason)
                    state = State.DONE if reason == "length" else State.CANCELLED
                    assert await record(cluster, job) == [state.value.encode(), count.encode()]
                    unstarted += reason == "cancelled" and count == "0"
            assert reasons == {"cancelled", "length"}, "some cancels came too late, and some did not"
            assert unstarted, "some came before the first token"

    asyncio.run(body())


def test_a_job_that_kills_its_worker_ends_as_poison_and_64_others_finish(tmp_path: Path) -> None:
    async def body(url: str) -> None:
        async with client_of(url) as client:
            healthy = [client.chat("Hello", max_tokens=300, seed=number) for number in range(32)]
            bad = client.chat("DIE", max_tokens=5)
            healthy += [client.chat("Hello", max_tokens=300, seed=number) for number in range(32, 64)]

            async def poison() -> None:
                with pytest.raises(Poison):
                    await bad.text()

            texts, _ = await asyncio.gather(asyncio.gather(*(answer.text() for answer in healthy)), poison())
            assert texts == [expected(300, seed=number) for number in range(64)]

    with up(tmp_path, "--workers", "2", EKIDEN_TEST_STEP_S="0.01", EKIDEN_MAX_RUNNING="40") as running:
        asyncio.run(body(running.ready()))


def emptied(cluster: Cluster) -> None:
    """The store is another one, at the same address."""
    cluster.store.stop(signal.SIGKILL)
    shutil.rmtree(cluster.store.folder)
    cluster.store.folder.mkdir()
    cluster.store.start()


def flushed(cluster: Cluster) -> None:
    """The store forgets everything while all are connected."""
    import redis

    with redis.Redis(port=cluster.store.port) as client:
        client.flushall()


@pytest.mark.parametrize("lose", [emptied, flushed])
def test_a_store_without_data_ends_every_answer_with_an_error_to_retry(
    tmp_path: Path, lose: Callable[[Cluster], None]
) -> None:
    async def lost(answer: Answer) -> None:
        with pytest.raises(JobLost) as error:
            await answer.text()
        assert error.value.retryable

    async def body() -> None:
        async with small_cluster(tmp_path) as (cluster, client):
            answers = [client.chat("Hello", max_tokens=3000, seed=number) for number in range(40)]
            for answer in answers[:20]:
                await anext(aiter(answer))

            async def accepted() -> bool:
                return all(answer.job for answer in answers)

            await until_async(accepted, what="40 accepted jobs")
            await asyncio.to_thread(lose, cluster)
            await asyncio.gather(*map(lost, answers))
            again = [client.chat("Hello", max_tokens=50, seed=number) for number in range(40)]
            texts = await asyncio.gather(*(answer.text() for answer in again))
            assert texts == [expected(50, seed=number) for number in range(40)]
            cluster.check()
            await cluster.check_store()

    asyncio.run(body())
