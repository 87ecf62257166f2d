"""The Lua scripts against a real Valkey: jobs that are held and go on."""

from collections.abc import Callable

import pytest

from ekiden import wire
from ekiden.jobs import State
from ekiden.memory import StoredPrompt
from ekiden.store.types import ANONYMOUS, AppendOutcome, Claimed, Ending, FirstTurn, SubmitOutcome
from tests.support.store_fleet import MODEL, Fleet, asked
from tests.support.waiting import until


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    return make_fleet(lease_s=0.2, beat_interval_s=0.1, early_reap_s=0, max_queued_jobs=50)


def park(fleet: Fleet, job: str = "j1") -> State | None:
    return fleet.store.run(fleet.commands.park(ANONYMOUS, job))


def resume(fleet: Fleet, job: str = "j1") -> State | None:
    return fleet.store.run(fleet.commands.resume(ANONYMOUS, job))


def asked_to_park(fleet: Fleet, worker: str) -> list[str]:
    return list(fleet.store.run(fleet.commands.beat(worker, 0, 0, "ready")).parks)


def running(fleet: Fleet, *texts: str) -> Claimed:
    """A job that worker w1 runs, with these texts in its log."""
    fleet.submit("j1")
    [claim] = fleet.claim(fleet.worker("w1"))
    fleet.start("w1", claim)
    fleet.append("w1", claim, 0, *texts)
    return claim


def test_a_queued_job_is_held_at_once_and_keeps_its_age(fleet: Fleet) -> None:
    frames = fleet.listen("r1")
    for job in ("j1", "j2"):
        fleet.submit(job)
    assert park(fleet) is State.QUEUED
    assert fleet.view("j1").state is State.PARKED
    assert [claim.job for claim in fleet.claim(fleet.worker("w1"), 2)] == ["j2"]
    fleet.submit("j3")
    assert resume(fleet) is State.PARKED
    assert [claim.job for claim in fleet.claim("w1", 2)] == ["j1", "j3"]
    until(lambda: frames().count(wire.ChangedFrame("j1")) == 2, what="both changes told")


def test_a_running_job_is_held_with_the_worker_s_next_records_and_goes_on_with_all_of_them(fleet: Fleet) -> None:
    claim = running(fleet, "a")
    assert park(fleet) is State.RUNNING
    assert fleet.view("j1").state is State.RUNNING
    assert asked_to_park(fleet, "w1") == ["j1"]
    assert asked_to_park(fleet, "w1") == []
    assert fleet.append("w1", claim, 1, "b") == (AppendOutcome.PARKED, 2)
    assert fleet.append("w1", claim, 2, "late") == (AppendOutcome.FENCED, 0)
    assert fleet.view("j1").state is State.PARKED
    assert fleet.claim("w1") == []
    resume(fleet)
    [again] = fleet.claim(fleet.worker("w2"))
    assert (again.attempt, [r.text for r in again.records]) == (2, ["a", "b"])
    assert fleet.append("w2", again, 2, "c", end=Ending("stop")) == (AppendOutcome.OK, 3)
    assert fleet.store.redis.hget(fleet.store.keys.job("j1"), "deaths") == b"0"


def test_a_worker_that_lets_go_parks_what_is_still_to_be_parked(fleet: Fleet) -> None:
    claim = running(fleet, "a")
    park(fleet)
    assert fleet.append("w1", claim, 1, "b", end=Ending("parked")) == (AppendOutcome.OK, 2)
    assert fleet.view("j1").state is State.PARKED


def test_a_job_that_was_resumed_before_it_was_parked_goes_on(fleet: Fleet) -> None:
    claim = running(fleet, "a")
    park(fleet)
    assert resume(fleet) is State.RUNNING
    assert fleet.append("w1", claim, 1, "b") == (AppendOutcome.OK, 2)
    # And when the worker has let go already, another claim takes it.
    assert fleet.append("w1", claim, 2, "c", end=Ending("parked")) == (AppendOutcome.OK, 3)
    assert fleet.view("j1").state is State.QUEUED
    assert [claim.attempt for claim in fleet.claim("w1")] == [2]


@pytest.mark.parametrize("end", [Ending("stop"), Ending("length"), Ending("error", "engine_error", "It failed.")])
def test_an_end_wins_over_a_park(fleet: Fleet, end: Ending) -> None:
    claim = running(fleet, "a")
    park(fleet)
    assert fleet.append("w1", claim, 1, "b", end=end) == (AppendOutcome.OK, 2)
    assert fleet.view("j1").ended is not None
    assert park(fleet) is not State.PARKED
    assert resume(fleet) in (State.DONE, State.ERROR)
    assert fleet.view("j1").ended is not None


@pytest.mark.parametrize("end", [None, Ending("parked"), Ending("cancelled")])
@pytest.mark.parametrize("first", ["park", "cancel"])
def test_a_cancel_wins_over_a_park(fleet: Fleet, end: Ending | None, first: str) -> None:
    claim = running(fleet, "a")
    for order in (first, "cancel", "park"):
        fleet.store.run(getattr(fleet.commands, order)(ANONYMOUS, "j1"))
    outcome, _ = fleet.append("w1", claim, 1, "b", end=end)
    assert outcome in (AppendOutcome.OK, AppendOutcome.CANCELLED)
    assert fleet.view("j1").state is State.CANCELLED


def test_a_held_job_can_be_cancelled_and_belongs_to_its_user(fleet: Fleet) -> None:
    fleet.submit("j1")
    for command in (fleet.commands.park, fleet.commands.resume):
        assert fleet.store.run(command("ann", "j1")) is None
        assert fleet.store.run(command(ANONYMOUS, "none")) is None
    park(fleet)
    assert park(fleet) is State.PARKED
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j1"))
    assert fleet.view("j1").state is State.CANCELLED
    assert resume(fleet) is State.CANCELLED


@pytest.mark.parametrize("loss", ["death", "handoff", "claim reply"])
def test_a_job_that_was_to_be_parked_is_when_its_worker_is_lost(fleet: Fleet, loss: str) -> None:
    running(fleet, "a")
    park(fleet)
    if loss == "death":
        fleet.die("w1")
        fleet.worker("w2")
        until(lambda: fleet.beat("w2") == 0 and fleet.view("j1").state is State.PARKED, what="a parked job")
    elif loss == "handoff":
        assert fleet.store.run(fleet.commands.handoff("w1")) == 0
    else:
        assert fleet.store.run(fleet.commands.reconcile("w1", [])) == []
    assert fleet.view("j1").state is State.PARKED
    resume(fleet)
    assert [claim.attempt for claim in fleet.claim(fleet.worker("w3"))] == [2]


def test_a_park_spares_no_job_the_rules_for_suspects(fleet: Fleet) -> None:
    running(fleet)
    for death in (1, 2, 3):
        park(fleet)
        worker, other = f"w{death}", f"w{death + 1}"
        fleet.die(worker)
        fleet.worker(other)
        until(lambda other=other: fleet.beat(other) == 0 and fleet.view("j1").state is not State.RUNNING)  # type: ignore[misc]
        if death < 3:
            assert fleet.view("j1").state is State.PARKED
            resume(fleet)
            fleet.submit(f"innocent{death}")
            taken = [claim.job for claim in fleet.claim(other, 2)]
            assert taken == (["j1", "innocent1"] if death == 1 else ["j1"]), "a suspect runs alone"
    end = fleet.view("j1").ended
    assert end is not None
    assert end.code == "poison"


def test_a_worker_is_not_asked_to_park_a_job_that_it_got_again(fleet: Fleet) -> None:
    claim = running(fleet, "a")
    park(fleet)
    fleet.append("w1", claim, 1, "b")
    resume(fleet)
    [_] = fleet.claim("w1")
    assert asked_to_park(fleet, "w1") == []
    park(fleet)
    resume(fleet)
    assert asked_to_park(fleet, "w1") == []


def test_time_in_which_a_job_is_held_is_no_run_time_and_no_grace(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(run_limit_s=0.3, abandon_grace_s=0.3)
    claim = running(fleet, "a")
    park(fleet)
    fleet.append("w1", claim, 1, "b")
    fleet.store.run(fleet.commands.detach("r1", "j1"))
    record = fleet.store.keys.job("j1")
    began = int(fleet.store.redis.hget(record, "run_left"))
    assert 0 < began <= 300
    server_ms = lambda: fleet.store.redis.time()[0] * 1000 + fleet.store.redis.time()[1] // 1000  # noqa: E731
    late = server_ms() + 400
    until(lambda: server_ms() > late, what="both limits")
    fleet.store.run(fleet.commands.poll("r2", []))
    assert fleet.store.redis.hget(record, "state") == b"parked"
    resume(fleet)
    assert int(fleet.store.redis.hget(record, "abandon_at")) > late
    fleet.claim("w1")
    assert int(fleet.store.redis.hget(record, "run_due")) - server_ms() <= began
    assert fleet.store.redis.hget(record, "run_left") is None


def test_a_conversation_stays_in_the_list_while_its_answer_is_held(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(keep_conversation_s=0.1, queue_wait_s=0.1, run_limit_s=0.1)
    fleet.submit("j1", place=FirstTurn("c", b"", "t"), request=asked("One"))
    park(fleet)
    # Its index outlives everything that may hold it.
    assert fleet.store.redis.pttl(fleet.store.keys.conversations(ANONYMOUS)) > 80_000_000
    page = fleet.store.run(fleet.commands.list_conversations(ANONYMOUS, 10))
    assert [each.id for each in page.conversations] == ["c"]


def test_a_held_answer_keeps_its_conversation_busy(fleet: Fleet) -> None:
    assert fleet.submit("j1", place=FirstTurn("c", b"", "t"), request=asked("One")) is SubmitOutcome.NEW
    [claim] = fleet.claim(fleet.worker("w1"))
    fleet.start("w1", claim, StoredPrompt([1]))
    park(fleet)
    fleet.append("w1", claim, 0, "a")
    assert fleet.summary().busy == "j1"
    resume(fleet)
    [again] = fleet.claim("w1")
    fleet.append("w1", again, 1, "b", end=Ending("stop"))
    assert fleet.said() == [("One", "ab")]
    assert fleet.store.redis.keys(fleet.store.keys.queue(MODEL) + "*") == []
