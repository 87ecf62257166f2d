"""The Lua scripts through their typed commands, against a real Valkey: a job from submit to expiry."""

from collections.abc import Callable

import pytest

from ekiden import wire
from ekiden.jobs import State
from ekiden.memory import StoredPrompt
from ekiden.store.types import ANONYMOUS, AppendOutcome, Ending, SubmitOutcome
from tests.support.store_fleet import MODEL, Fleet
from tests.support.waiting import until


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    return make_fleet(lease_s=0.2, beat_interval_s=0.1, early_reap_s=0, max_queued_jobs=50)


def test_a_job_runs_from_submit_to_done(fleet: Fleet) -> None:
    frames = fleet.listen("r1")
    assert fleet.submit("j1") is SubmitOutcome.NEW
    [claim] = fleet.claim(fleet.worker("w1"))
    assert (claim.job, claim.attempt, claim.request, claim.prompt, claim.records) == ("j1", 1, b"request", None, [])
    assert claim.memory is None
    assert fleet.start("w1", claim, StoredPrompt([4, 5], dropped_turns=2, retokenized_tokens=1), 7)
    assert fleet.append("w1", claim, 0, "Hel", "lo") == (AppendOutcome.OK, 2)
    assert fleet.append("w1", claim, 2, "!", end=Ending("stop")) == (AppendOutcome.OK, 3)
    started, first, second, ended = until(lambda: len(f := frames()) == 4 and f)
    assert started == wire.StartedFrame("j1", 1, 2)
    assert first == wire.DeltaFrame("j1", 1, 0, [wire.Record(0, "Hel"), wire.Record(1, "lo")])
    assert second == wire.DeltaFrame("j1", 1, 2, [wire.Record(2, "!")])
    assert isinstance(ended, wire.EndedFrame)
    assert (ended.state, ended.cursor, ended.finish_reason) == ("done", 3, "stop")
    assert (ended.prompt_tokens, ended.retokenized_tokens) == (7, 1)
    assert ended.total_ms is not None
    snapshot = fleet.view("j1", 1)
    assert (snapshot.state, snapshot.cursor, [r.text for r in snapshot.records]) == (State.DONE, 3, ["lo", "!"])
    assert snapshot.ended == ended


def test_nothing_is_left_to_live_for_ever_after_a_job(fleet: Fleet) -> None:
    fleet.submit("j1", user="ann")
    [claim] = fleet.claim(fleet.worker("w1"))
    fleet.append("w1", claim, 0, "x", end=Ending("length"))
    eternal = {
        key.decode().split(":", 1)[1]
        for key in fleet.store.redis.keys(fleet.store.keys.prefix + "*")
        if fleet.store.redis.ttl(key) == -1
    }
    assert eternal <= {"jobs", "ended", "workers", "replicas", "models", "seq", "fleet", "totals"}


def test_the_same_submission_is_stored_once_and_another_body_conflicts(fleet: Fleet) -> None:
    assert fleet.submit("j1", client_id="c") is SubmitOutcome.NEW
    assert fleet.submit("j2", client_id="c") is SubmitOutcome.KNOWN
    assert fleet.submit("j3", client_id="c", digest="other") is SubmitOutcome.CONFLICT
    assert fleet.submit("j4", client_id="c", user="ann") is SubmitOutcome.NEW
    assert fleet.store.run(fleet.commands.attach("r1", ANONYMOUS, "j2", 0)) is None


def test_bounds_of_queue_and_user_are_answered(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(max_queued_jobs=4, max_jobs_per_user=2)
    assert fleet.submit("a1", user="ann") is SubmitOutcome.NEW
    assert fleet.submit("a2", user="ann") is SubmitOutcome.NEW
    assert fleet.submit("a3", user="ann") is SubmitOutcome.TOO_MANY_JOBS
    assert fleet.submit("n1") is SubmitOutcome.NEW
    assert fleet.submit("n2") is SubmitOutcome.NEW
    assert fleet.submit("n3") is SubmitOutcome.QUEUE_FULL


def test_claim_takes_priority_then_the_user_with_fewest_running_then_age(fleet: Fleet) -> None:
    for job, user, priority in [
        ("a1", "ann", 0),
        ("a2", "ann", 0),
        ("a3", "ann", 0),
        ("b1", "bob", 0),
        ("c1", "cem", 5),
    ]:
        fleet.submit(job, user=user, priority=priority)
    worker = fleet.worker("w1")
    assert [claim.job for claim in fleet.claim(worker, 5)] == ["c1", "a1", "b1", "a2", "a3"]


def test_positions_follow_priority_and_age(fleet: Fleet) -> None:
    for job, priority in [("a", 0), ("b", 0), ("c", 3)]:
        fleet.submit(job, priority=priority)
    assert [fleet.view(job).position for job in "cab"] == [0, 1, 2]


def test_many_jobs_of_one_user_are_claimed_in_order(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(max_queued_jobs=10_000)
    jobs = [f"{i * 7919 % 1000:03}" for i in range(1000)]
    for job in jobs:
        fleet.submit(job)
    worker = fleet.worker("w1")
    assert [claim.job for _ in range(100) for claim in fleet.claim(worker, 10)] == jobs


def test_cancel_ends_a_queued_job_at_once_and_a_running_one_with_its_next_append(fleet: Fleet) -> None:
    frames = fleet.listen("r1")
    fleet.submit("j1")
    fleet.submit("j2")
    [claim] = fleet.claim(fleet.worker("w1"))
    assert fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j2")) is State.QUEUED
    assert fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j1")) is State.RUNNING
    assert fleet.store.run(fleet.commands.cancel("ann", "j1")) is None
    assert fleet.store.run(fleet.commands.beat("w1", 1, 0, "ready")).cancels == ["j1"]
    assert fleet.append("w1", claim, 0, "a") == (AppendOutcome.CANCELLED, 1)
    assert fleet.append("w1", claim, 1, "b") == (AppendOutcome.FENCED, 0)
    ends = until(lambda: len(e := [f for f in frames() if isinstance(f, wire.EndedFrame)]) == 2 and e)
    assert [(e.job, e.state, e.finish_reason, e.cursor) for e in ends] == [
        ("j2", "cancelled", "cancelled", 0),
        ("j1", "cancelled", "cancelled", 1),
    ]
    assert fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j1")) is State.CANCELLED


def test_an_append_that_carries_the_end_wins_over_a_cancel(fleet: Fleet) -> None:
    fleet.submit("j1")
    [claim] = fleet.claim(fleet.worker("w1"))
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j1"))
    assert fleet.append("w1", claim, 0, "a", end=Ending("stop")) == (AppendOutcome.OK, 1)
    assert fleet.view("j1").state is State.DONE


def test_two_replicas_both_get_every_frame_and_one_that_is_gone_is_dropped(fleet: Fleet) -> None:
    first, second = fleet.listen("r1"), fleet.listen("r2")
    fleet.submit("j1", replica="r1")
    fleet.view("j1", replica="r2")
    fleet.view("j1", replica="nobody")
    [claim] = fleet.claim(fleet.worker("w1"))
    fleet.append("w1", claim, 0, "a")
    watchers = fleet.store.redis.smembers(fleet.store.keys.prefix + "watchers:j1")
    assert watchers == {b"r1", b"r2"}
    for received in (first, second):
        assert until(received) == [wire.DeltaFrame("j1", 1, 0, [wire.Record(0, "a")])]


def test_poll_returns_only_what_changed_and_watches_again(fleet: Fleet) -> None:
    fleet.submit("j1", replica="r1")
    fleet.submit("j2", replica="r1")
    one, _two = fleet.claim(fleet.worker("w1"), 2)
    fleet.append("w1", one, 0, "a", "b")  # nobody listens: r1 is dropped
    reply = fleet.store.run(fleet.commands.poll("r1", [("j1", 1, 1), ("j2", 0, 1), ("gone", 0, 0)]))
    assert [(s.job, s.cursor, [r.text for r in s.records]) for s in reply.changed] == [("j1", 2, ["b"])]
    assert reply.missing == ["gone"]
    assert reply.known
    assert fleet.store.redis.smembers(fleet.store.keys.prefix + "watchers:j1") == {b"r1"}


@pytest.mark.parametrize("asks", ["poll", "attach"])
def test_a_replica_that_was_not_heard_keeps_no_entry_of_an_ended_job(fleet: Fleet, asks: str) -> None:
    fleet.submit("j1", replica="r1")
    [claim] = fleet.claim(fleet.worker("w1"))
    fleet.append("w1", claim, 0, "a")  # nobody listens: r1 is dropped
    fleet.append("w1", claim, 1, "b", end=Ending("stop"))
    entries = fleet.store.keys.prefix + "replica:r1:jobs"
    assert fleet.store.redis.smembers(entries) == {b"j1"}
    if asks == "poll":
        fleet.store.run(fleet.commands.poll("r1", [("j1", 1, 1)]))
    else:
        assert fleet.store.run(fleet.commands.attach("r1", ANONYMOUS, "j1", 1)) is not None
    assert not fleet.store.redis.exists(entries)


@pytest.mark.parametrize("limit", ["queue_wait_s", "run_limit_s", "abandon_grace_s", "park_limit_s"])
def test_limits_end_jobs_with_their_own_code_though_only_an_api_lives(
    make_fleet: Callable[..., Fleet], limit: str
) -> None:
    fleet = make_fleet(**{limit: 0.05})
    fleet.submit("j1")
    if limit == "run_limit_s":
        fleet.claim(fleet.worker("w1"))
    if limit == "abandon_grace_s":
        fleet.store.run(fleet.commands.detach("r1", "j1"))
    if limit == "park_limit_s":
        fleet.store.run(fleet.commands.park(ANONYMOUS, "j1"))

    def ended() -> bool:
        fleet.store.run(fleet.commands.poll("other", []))
        return fleet.store.redis.hexists(fleet.store.keys.job("j1"), "ended")

    until(ended)
    end = fleet.view("j1").ended
    assert end is not None
    codes = {"queue_wait_s": "queue_timeout", "run_limit_s": "run_timeout", "park_limit_s": "park_timeout"}
    assert end.code == codes.get(limit, "abandoned")
    assert fleet.store.redis.exists(fleet.store.keys.queue(MODEL)) == 0


def test_a_client_that_comes_back_stops_the_grace(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(abandon_grace_s=60)
    fleet.submit("j1")
    fleet.store.run(fleet.commands.detach("r1", "j1"))
    assert fleet.store.redis.hexists(fleet.store.keys.job("j1"), "abandon_at")
    fleet.view("j1")
    assert not fleet.store.redis.hexists(fleet.store.keys.job("j1"), "abandon_at")


def test_the_last_client_out_cancels_a_job_that_asked_for_it(fleet: Fleet) -> None:
    fleet.submit("j1", on_disconnect="cancel")
    fleet.view("j1", replica="r2")
    fleet.store.run(fleet.commands.detach("r1", "j1"))
    assert fleet.view("j1", replica="r2").state is State.QUEUED
    fleet.store.run(fleet.commands.detach("r2", "j1"))
    assert fleet.view("j1").state is State.CANCELLED


def test_the_jobs_of_a_dead_replica_begin_their_grace(fleet: Fleet) -> None:
    fleet.submit("j1", replica="r1")
    fleet.submit("j2", replica="r1", on_disconnect="cancel")
    fleet.store.redis.zadd(fleet.store.keys.replicas, {"r1": 1})
    fleet.store.run(fleet.commands.poll("r2", []))
    assert fleet.view("j2").state is State.QUEUED, "nobody was heard before: the store may have been away"
    fleet.store.redis.zadd(fleet.store.keys.replicas, {"r1": 1})
    fleet.store.redis.hset(fleet.store.keys.prefix + "fleet", "no_leave_until", 0)
    fleet.store.run(fleet.commands.poll("r2", []))
    assert fleet.store.redis.hexists(fleet.store.keys.job("j1"), "abandon_at")
    assert fleet.view("j2").state is State.CANCELLED
    assert not fleet.store.run(fleet.commands.poll("r1", [])).known


def test_summaries_are_trimmed_with_their_index_entries(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(keep_summary_s=1, keep_log_s=1)
    fleet.submit("j1")
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j1"))

    def forgotten() -> bool:
        fleet.store.run(fleet.commands.poll("r1", []))
        return fleet.store.redis.zcard(fleet.store.keys.jobs) == 0

    until(forgotten)
    assert not fleet.store.redis.exists(fleet.store.keys.job("j1"))
    assert fleet.submit("j1") is SubmitOutcome.NEW


def test_an_answer_larger_than_one_call_of_the_log_is_split_by_the_caller_and_read_whole(fleet: Fleet) -> None:
    fleet.submit("j1")
    [claim] = fleet.claim(fleet.worker("w1"))
    for start in range(0, 4000, 500):
        fleet.append("w1", claim, start, *[f"{i} " for i in range(start, start + 500)])
    assert "".join(r.text for r in fleet.view("j1").records) == "".join(f"{i} " for i in range(4000))
