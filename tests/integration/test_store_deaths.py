"""The Lua scripts against a real Valkey: what happens to jobs when workers die, hang, or lose replies."""

import time
from collections.abc import Callable

import pytest

from ekiden import wire
from ekiden.jobs import State
from ekiden.memory import StoredPrompt, encode_prompt
from ekiden.store.types import ANONYMOUS, AppendOutcome, Ending
from tests.support.store_fleet import MODEL, Fleet
from tests.support.waiting import until


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    return make_fleet(lease_s=0.2, beat_interval_s=0.1, early_reap_s=0, max_queued_jobs=50)


def test_jobs_of_a_dead_worker_move_with_their_log_and_the_old_one_is_fenced(fleet: Fleet) -> None:
    frames = fleet.listen("r1")
    fleet.submit("j1")
    [old] = fleet.claim(fleet.worker("w1"))
    prompt = StoredPrompt([4, 5])
    fleet.start("w1", old, prompt)
    fleet.append("w1", old, 0, "a", "b")
    fleet.die("w1")
    fleet.worker("w2")
    assert fleet.reap("w2") == 1
    assert fleet.append("w1", old, 2, "zombie") == (AppendOutcome.FENCED, 0)
    [new] = fleet.claim("w2")
    assert (new.attempt, new.prompt, [r.text for r in new.records]) == (2, encode_prompt(prompt), ["a", "b"])
    assert new.fence > old.fence
    assert fleet.append("w1", old, 2, "zombie") == (AppendOutcome.FENCED, 0)
    assert fleet.append("w2", new, 2, "c", end=Ending("stop")) == (AppendOutcome.OK, 3)
    assert wire.MovedFrame("j1", 2) in until(lambda: len(f := frames()) == 5 and f)
    assert [r.text for r in fleet.view("j1").records] == ["a", "b", "c"]
    assert fleet.store.run(fleet.commands.beat("w1", 0, 0, "ready")).fenced
    assert fleet.store.run(fleet.commands.claim("w1", MODEL, 1)) is None


def test_after_a_silence_of_all_nobody_is_reaped_for_one_lease(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(lease_s=1.0, beat_interval_s=0.05, early_reap_s=0)
    fleet.submit("j1")
    fleet.claim(fleet.worker("w1"))
    fleet.worker("w2")
    assert fleet.beat("w2") == 0  # the first beat ever follows a silence
    fleet.die("w1")
    started = time.monotonic()
    assert fleet.reap("w2") == 1
    assert time.monotonic() - started > 0.8


def test_a_silent_worker_without_its_socket_is_reaped_before_its_lease(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(lease_s=60, beat_interval_s=20, early_reap_s=0.1)
    fleet.submit("j1")
    fleet.claim(fleet.worker("w1"))
    fleet.submit("j2")
    fleet.claim(fleet.worker("w2"))
    alive = fleet.store.redis.pubsub()
    alive.subscribe(fleet.store.keys.live("w2"))
    fleet.worker("w3")
    fleet.store.redis.hset(fleet.store.keys.prefix + "fleet", "last_beat", int(time.time() * 1000))
    assert fleet.reap("w3") == 1
    assert (fleet.view("j1").state, fleet.view("j2").state) == (State.QUEUED, State.RUNNING)
    alive.close()


def test_a_new_worker_in_a_slot_proves_the_old_one_dead(fleet: Fleet) -> None:
    fleet.submit("j1")
    fleet.claim(fleet.worker("w1", slot="s"))
    fleet.worker("w2", slot="s")
    assert [claim.attempt for claim in fleet.claim("w2")] == [2]


def test_a_lost_append_reply_is_told_where_the_log_is(fleet: Fleet) -> None:
    fleet.submit("j1")
    [claim] = fleet.claim(fleet.worker("w1"))
    assert fleet.append("w1", claim, 0, "a", "b") == (AppendOutcome.OK, 2)
    assert fleet.append("w1", claim, 0, "a", "b", "c") == (AppendOutcome.RESEND, 2)
    assert fleet.append("w1", claim, 2, "c") == (AppendOutcome.OK, 3)


def test_a_lost_claim_reply_is_repeated_with_the_same_attempt(fleet: Fleet) -> None:
    fleet.submit("j1")
    fleet.submit("j2")
    first, second = fleet.claim(fleet.worker("w1"), 2)
    again = fleet.store.run(fleet.commands.reconcile("w1", [first.job]))
    assert again == [second]


def test_a_job_whose_claim_was_lost_ends_when_it_is_to_be_cancelled(fleet: Fleet) -> None:
    frames = fleet.listen("r1")
    fleet.submit("j1")
    fleet.claim(fleet.worker("w1"))
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j1"))
    assert fleet.store.run(fleet.commands.reconcile("w1", [])) == []
    [ended] = until(frames)
    assert isinstance(ended, wire.EndedFrame)
    assert (ended.state, fleet.view("j1").state) == ("cancelled", State.CANCELLED)
    assert fleet.beat("w1") == 0


def test_a_job_that_kills_its_workers_runs_alone_and_then_is_poison(fleet: Fleet) -> None:
    fleet.submit("bad")
    for attempt in (1, 2):
        [claim] = fleet.claim(fleet.worker(f"w{attempt}"))
        assert claim.attempt == attempt
        fleet.die(f"w{attempt}")
        fleet.worker(f"reaper{attempt}")
        assert fleet.reap(f"reaper{attempt}") == 1
    fleet.submit("good")
    worker = fleet.worker("w3")
    fleet.die("reaper1"), fleet.die("reaper2")
    assert [c.job for c in fleet.claim(worker, 8)] == ["bad"]
    assert fleet.claim(worker, 8) == []
    assert [c.job for c in fleet.claim(fleet.worker("w4"), 8)] == ["good"]
    fleet.die("w3")
    until(lambda: fleet.beat("w4") or fleet.view("bad").state is State.ERROR)
    ended = fleet.view("bad").ended
    assert ended is not None
    assert ended.code == "poison"


def test_a_suspect_waits_until_its_worker_is_empty(fleet: Fleet) -> None:
    fleet.submit("bad")
    fleet.submit("busy")
    worker = fleet.worker("w1")
    [bad, busy] = fleet.claim(worker, 2)
    fleet.store.redis.hset(fleet.store.keys.job("bad"), "deaths", 1)
    fleet.store.redis.sadd(fleet.store.keys.worker_jobs("dead"), "bad")
    fleet.store.redis.srem(fleet.store.keys.worker_jobs(worker), "bad")
    fleet.store.redis.hset(fleet.store.keys.job("bad"), "owner", "dead")
    fleet.die("dead")
    fleet.reap(worker)
    fleet.submit("next")
    assert fleet.claim(worker, 8) == []
    fleet.append(worker, busy, 0, "x", end=Ending("stop"))
    [claim] = fleet.claim(worker, 8)
    assert (claim.job, claim.attempt) == ("bad", 2)
    assert fleet.append(worker, claim, 0, "fine", end=Ending("stop"))[0] is AppendOutcome.OK
    assert [c.job for c in fleet.claim(worker, 8)] == ["next"]
    assert bad.job == "bad"


def test_a_token_frees_the_worker_that_a_suspect_had_reserved(fleet: Fleet) -> None:
    fleet.submit("j1")
    for attempt in (1, 2):
        fleet.claim(fleet.worker(f"w{attempt}"))
        fleet.die(f"w{attempt}")
        fleet.worker("reaper")
        fleet.reap("reaper")
    fleet.submit("j2")
    [claim] = fleet.claim("reaper")
    assert claim.job == "j1"
    assert fleet.claim("reaper") == []
    fleet.append("reaper", claim, 0, "t")
    assert [claim.job for claim in fleet.claim("reaper")] == ["j2"]


def test_progress_clears_the_suspicion(fleet: Fleet) -> None:
    fleet.submit("j1")
    for attempt in range(1, 6):
        [claim] = fleet.claim(fleet.worker(f"w{attempt}"))
        assert fleet.append(f"w{attempt}", claim, attempt - 1, "t") == (AppendOutcome.OK, attempt)
        fleet.die(f"w{attempt}")
        fleet.worker("reaper")
        fleet.reap("reaper")
    assert fleet.view("j1").state is State.QUEUED


def test_handoff_moves_jobs_without_a_death(fleet: Fleet) -> None:
    fleet.submit("j1")
    [old] = fleet.claim(fleet.worker("w1"))
    assert fleet.store.run(fleet.commands.handoff("w1")) == 1
    assert fleet.append("w1", old, 0, "late")[0] is AppendOutcome.FENCED
    assert fleet.store.redis.hget(fleet.store.keys.job("j1"), "deaths") == b"0"
    assert [c.attempt for c in fleet.claim(fleet.worker("w2"))] == [2]
    assert fleet.store.redis.zscore(fleet.store.keys.workers, "w1") is None
