"""A real worker process with a fake engine, driven through the store as the API would."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from ekiden.broker import TASK, create_celery
from ekiden.jobs import State
from ekiden.protocol import JobRequest, Message
from ekiden.settings import Settings
from ekiden.store import BlockingStore
from ekiden.store.types import ANONYMOUS, NewJob, Snapshot
from tests.support.fake_engine import expected_ids, text_of
from tests.support.processes import Processes
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

MESSAGES = [Message("user", "Hello")]


class Client:
    """Submits jobs and reads their snapshots, without an API process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = BlockingStore(settings)
        self.celery = create_celery(settings)

    def close(self) -> None:
        self.celery.close()
        self.store.close()

    def submit(self, job: str, tokens: int, *, wake: bool = True, text: str = "Hello", **params: object) -> None:
        request = JobRequest(
            messages=[Message("user", text)],
            model=self.settings.model_name,
            max_tokens=tokens,
            temperature=0.0,
            top_p=1.0,
            top_k=0,
            min_p=0.0,
            repetition_penalty=1.0,
            seed=1,
            stop=list(params.get("stop", [])),  # type: ignore[call-overload]
        )
        encoded = msgspec.msgpack.encode(request)
        new = NewJob(job, ANONYMOUS, job, "digest", self.settings.model_name, 0, "keep", encoded)
        self.store.run(self.store.commands.submit(new, "r1"))
        if wake:
            self.celery.send_task(TASK, (job,))

    def view(self, job: str) -> Snapshot:
        snapshot = self.store.run(self.store.commands.attach("r1", ANONYMOUS, job, 0))
        assert snapshot is not None
        return snapshot

    def ended(self, job: str) -> Snapshot | None:
        snapshot = self.view(job)
        return snapshot if snapshot.ended else None

    def wait(self, job: str) -> Snapshot:
        return until(lambda: self.ended(job), timeout_s=40, what=f"the end of {job}")

    def wait_tokens(self, job: str, count: int) -> None:
        until(lambda: self.view(job).cursor >= count, what=f"{count} tokens of {job}")

    def expect(self, job: str, tokens: int, text: str = "Hello") -> Snapshot:
        """The job is done and its log is that of an undisturbed run."""
        snapshot = self.wait(job)
        ids = expected_ids([Message("user", text)], 1, tokens)
        assert [record.token_id for record in snapshot.records] == ids
        assert "".join(record.text for record in snapshot.records) == text_of(ids)
        assert snapshot.ended is not None
        assert (snapshot.ended.finish_reason, snapshot.cursor) == ("length", tokens)
        return snapshot


StartFleet = Callable[[Settings], Processes]
StartClient = Callable[[Settings], Client]


@pytest.fixture
def client_of() -> Iterator[StartClient]:
    """Clients on the store of given settings."""
    with ExitStack() as stack:
        yield lambda settings: stack.enter_context(closing(Client(settings)))


def test_a_job_is_answered_and_its_wake_up_is_consumed(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet_of(settings).worker()
    client = client_of(settings)
    client.submit("j1", 20)
    snapshot = client.expect("j1", 20)
    assert snapshot.started
    assert snapshot.ended is not None
    assert snapshot.ended.prompt_tokens == len("user:Hello\n")
    queue = f"{{{settings.key_prefix}}}:celery:{settings.key_prefix}.ekiden"
    until(lambda: client.store.redis.llen(queue) == 0, what="an empty Celery queue")


def test_several_ids_at_once_are_logged_one_by_one_up_to_a_stop_sequence(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet_of(settings).worker(EKIDEN_TEST_STEP_IDS="7")
    client = client_of(settings)
    client.submit("whole", 20)
    client.expect("whole", 20)
    ids = expected_ids(MESSAGES, 1, 20)
    client.submit("stopped", 20, stop=[f"w{ids[9]}"])  # the third id of the second output
    snapshot = client.wait("stopped")
    assert snapshot.ended is not None
    assert (snapshot.ended.finish_reason, snapshot.cursor) == ("stop", 10)
    assert "".join(record.text for record in snapshot.records) == text_of(ids[:9])


def test_jobs_without_a_wake_up_and_with_too_many_are_answered_once(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet_of(settings).worker(EKIDEN_MAX_RUNNING="3")
    client = client_of(settings)
    for number in range(10):
        client.submit(f"quiet{number}", 10, wake=False)
        client.submit(f"loud{number}", 10)
        for _ in range(2):
            client.celery.send_task(TASK, (f"loud{number}",))
    for number in range(10):
        assert client.expect(f"quiet{number}", 10).attempt == 1
        assert client.expect(f"loud{number}", 10).attempt == 1


def test_a_stop_sequence_ends_the_answer_and_is_not_in_it(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet_of(settings).worker()
    client = client_of(settings)
    ids = expected_ids(MESSAGES, 1, 10)
    whole = text_of(ids)
    stop = whole[len(text_of(ids[:4])) - 2 : len(text_of(ids[:5])) - 1]  # straddles two tokens
    client.submit("j1", 10, stop=[stop])
    snapshot = client.wait("j1")
    assert snapshot.ended is not None
    assert snapshot.ended.finish_reason == "stop"
    assert "".join(record.text for record in snapshot.records) == whole[: whole.index(stop)]


@pytest.mark.parametrize(
    ("tokens", "text", "code"), [(5000, "Hello", "prompt_too_long"), (5, "[FORGED]", "special_tags")]
)
def test_a_prompt_that_cannot_be_answered_ends_with_its_code(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient, tokens: int, text: str, code: str
) -> None:
    fleet_of(settings).worker()
    client = client_of(settings)
    client.submit("j1", tokens, text=text)
    ended = client.wait("j1").ended
    assert ended is not None
    assert (ended.state, ended.code) == ("error", code)
    client.submit("j2", 3)
    client.expect("j2", 3)


def test_the_jobs_of_a_killed_worker_go_on_with_another(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet = fleet_of(settings)
    first = fleet.worker(EKIDEN_TEST_STEP_S="0.02")
    client = client_of(settings)
    for number in range(5):
        client.submit(f"j{number}", 150)
    client.wait_tokens("j4", 10)
    fleet.worker(EKIDEN_TEST_STEP_S="0.002")
    first.end(signal.SIGKILL)
    assert {client.expect(f"j{number}", 150).attempt for number in range(5)} == {2}


def test_a_worker_that_slept_past_its_lease_is_fenced_and_works_on(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet = fleet_of(settings)
    extra = {"EKIDEN_LEASE_S": "1", "EKIDEN_EARLY_REAP_S": "0", "EKIDEN_TEST_STEP_S": "0.01"}
    first = fleet.worker(**extra)
    client = client_of(settings)
    client.submit("j1", 400)
    client.wait_tokens("j1", 10)
    second = fleet.worker(**extra)
    first.send(signal.SIGSTOP)
    until(lambda: client.view("j1").attempt == 2, what="a move")
    first.send(signal.SIGCONT)
    client.expect("j1", 400)
    second.end()
    client.submit("j2", 5)
    client.expect("j2", 5)
    assert "fenced" in first.text()


def test_a_stopping_worker_hands_over_without_a_death(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet = fleet_of(settings)
    first = fleet.worker(EKIDEN_TEST_STEP_S="0.05", EKIDEN_DRAIN_S="0.1")
    client = client_of(settings)
    client.submit("j1", 100)
    client.wait_tokens("j1", 5)
    fleet.worker(EKIDEN_TEST_STEP_S="0.005")
    assert first.end(signal.SIGTERM) == 0
    assert client.expect("j1", 100).attempt == 2
    assert client.store.redis.hget(client.store.keys.job("j1"), "deaths") == b"0"


def test_a_leaving_worker_that_is_fenced_and_loses_its_connections_leaves_in_order(
    own_valkey: ValkeyServer, make_settings: Callable[..., Settings], fleet_of: StartFleet, client_of: StartClient
) -> None:
    settings = make_settings(redis_url=own_valkey.url)
    worker = fleet_of(settings).worker(EKIDEN_TEST_STEP_S="0.05", EKIDEN_DRAIN_S="3")
    client = client_of(settings)
    client.submit("j1", 200)
    client.wait_tokens("j1", 5)
    [incarnation] = client.store.redis.zrange(client.store.keys.workers, 0, -1)
    worker.send(signal.SIGTERM)
    record = client.store.keys.worker(incarnation.decode())
    until(lambda: client.store.redis.hget(record, "state") == b"leaving", what="a leaving worker")
    client.store.redis.zrem(client.store.keys.workers, incarnation)
    own_valkey.drop_connections()
    assert worker.child.wait(20) == 0
    assert "store_away_for_beat" in worker.text()


def test_cancel_frees_the_slot_at_once(settings: Settings, fleet_of: StartFleet, client_of: StartClient) -> None:
    fleet_of(settings).worker(EKIDEN_MAX_RUNNING="1", EKIDEN_TEST_STEP_S="0.01")
    client = client_of(settings)
    client.submit("j1", 3000)
    client.submit("j2", 5)
    client.wait_tokens("j1", 5)
    assert client.view("j2").state is State.QUEUED
    client.store.run(client.store.commands.cancel(ANONYMOUS, "j1"))
    ended = client.wait("j1").ended
    assert ended is not None
    assert ended.finish_reason == "cancelled"
    client.expect("j2", 5)


def test_a_hung_engine_gives_up_its_jobs(settings: Settings, fleet_of: StartFleet, client_of: StartClient) -> None:
    fleet = fleet_of(settings)
    first = fleet.worker(EKIDEN_ENGINE_STALL_S="0.5", EKIDEN_LEASE_S="1", EKIDEN_TEST_STEP_S="0.02")
    client = client_of(settings)
    client.submit("good", 300)
    client.wait_tokens("good", 5)
    client.submit("bad", 5, text="HANG")
    assert first.child.wait(20) == 4
    assert "engine_lost" in first.text()
    client.store.run(client.store.commands.cancel("", "bad"))
    fleet.worker()
    assert client.expect("good", 300).attempt == 2


def test_a_record_that_cannot_be_read_ends_the_process_and_not_its_threads_alone(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet = fleet_of(settings)
    client = client_of(settings)
    client.submit("j1", 5)
    client.store.redis.rpush(client.store.keys.log("j1"), b"\xff no record")
    worker = fleet.worker()
    assert worker.child.wait(20) == 4
    assert "the IO thread ended" in worker.text()


def test_a_prompt_that_takes_long_to_build_stops_no_other_answer(
    settings: Settings, fleet_of: StartFleet, client_of: StartClient
) -> None:
    fleet_of(settings).worker(EKIDEN_TEST_STEP_S="0.005")
    client = client_of(settings)
    client.submit("long", 100)
    client.wait_tokens("long", 5)
    client.submit("slow", 5, text="SLOW")
    client.expect("long", 100)
    assert not client.view("slow").started
    client.expect("slow", 5, text="SLOW")


def test_the_store_may_be_away_for_a_while_and_no_job_moves(
    own_valkey: ValkeyServer, make_settings: Callable[..., Settings], fleet_of: StartFleet, client_of: StartClient
) -> None:
    settings = make_settings(redis_url=own_valkey.url)
    fleet = fleet_of(settings)
    fleet.worker(EKIDEN_TEST_STEP_S="0.05")
    fleet.worker(EKIDEN_TEST_STEP_S="0.05")
    client = client_of(settings)
    jobs = [f"j{number}" for number in range(6)]
    for job in jobs:
        client.submit(job, 600)
    for job in jobs:
        client.wait_tokens(job, 5)
    for tenths in range(3, 31, 3):
        before = client.view("j0").cursor
        own_valkey.send(signal.SIGSTOP)
        time.sleep(tenths / 10)  # the outage itself
        own_valkey.send(signal.SIGCONT)
        client.wait_tokens("j0", before + 2)
    for job in jobs:
        assert client.expect(job, 600).attempt == 1


def test_a_worker_without_its_store_generates_up_to_a_bound_and_loses_nothing(
    own_valkey: ValkeyServer, make_settings: Callable[..., Settings], fleet_of: StartFleet, client_of: StartClient
) -> None:
    settings = make_settings(redis_url=own_valkey.url)
    worker = fleet_of(settings).worker(EKIDEN_TEST_STEP_S="0.002", EKIDEN_MAX_UNWRITTEN_TOKENS="300")
    client = client_of(settings)
    for job in ("j1", "j2"):
        client.submit(job, 2000)
        client.wait_tokens(job, 5)
    own_valkey.send(signal.SIGSTOP)
    until(lambda: "engine_held" in worker.text(), what="a full buffer")
    own_valkey.send(signal.SIGCONT)
    for job in ("j1", "j2"):
        assert client.expect(job, 2000).attempt == 1
    assert "engine_goes_on" in worker.text()


@pytest.mark.parametrize(("setting", "cannot", "can"), [("maxmemory", "1mb", "0"), ("min-replicas-to-write", "1", "0")])
def test_a_store_that_cannot_write_for_a_while_ends_no_worker(
    own_valkey: ValkeyServer,
    make_settings: Callable[..., Settings],
    fleet_of: StartFleet,
    client_of: StartClient,
    setting: str,
    cannot: str,
    can: str,
) -> None:
    settings = make_settings(redis_url=own_valkey.url)
    fleet = fleet_of(settings)
    workers = [fleet.worker(EKIDEN_TEST_STEP_S="0.01") for _ in range(2)]
    client = client_of(settings)
    client.submit("j1", 300)
    client.wait_tokens("j1", 5)
    client.store.redis.config_set(setting, cannot)
    for worker in workers:
        until(lambda worker=worker: "store_away_for_beat" in worker.text(), what="a store that cannot write")  # type: ignore[misc]
    client.store.redis.config_set(setting, can)
    assert client.expect("j1", 300).attempt == 1
    for worker in workers:
        worker.check()
    client.submit("j2", 5)
    client.expect("j2", 5)


def test_an_acknowledged_job_survives_a_killed_store(
    own_valkey: ValkeyServer, make_settings: Callable[..., Settings], fleet_of: StartFleet, client_of: StartClient
) -> None:
    settings = make_settings(redis_url=own_valkey.url)
    fleet_of(settings).worker(EKIDEN_TEST_STEP_S="0.02")
    client = client_of(settings)
    client.submit("j1", 150)
    client.wait_tokens("j1", 10)
    # appendfsync everysec may lose the last second; a killed process loses nothing that was written to the kernel
    own_valkey.stop(signal.SIGKILL)
    own_valkey.start()
    client.expect("j1", 150)


def test_a_wrong_setting_or_engine_is_one_sentence_and_exit_3(
    settings: Settings, tmp_path: Path, fleet_of: StartFleet
) -> None:
    from tests.support.processes import Process

    for name, extra in enumerate([{"EKIDEN_LEASE": "1"}, {"EKIDEN_ENGINE": "no.such:thing"}, {"EKIDEN_MODEL": "/no"}]):
        process = Process("ekiden_worker", settings, tmp_path / f"bad{name}.log", extra)
        assert process.child.wait(60) == 3
        assert "Traceback" not in process.text()
