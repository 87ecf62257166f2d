"""The Lua scripts against a real Valkey: new jobs go to the workers that have fewest."""

from collections.abc import Callable

import pytest

from ekiden.store.types import Ending
from tests.support.store_fleet import MODEL, Fleet
from tests.support.waiting import until


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    """Nobody's patience ends within a test."""
    return make_fleet(lease_s=120, beat_interval_s=60, early_reap_s=0)


def submit(fleet: Fleet, count: int) -> None:
    for number in range(count):
        fleet.submit(f"j{number}")


def test_workers_that_ask_for_more_share_what_is_queued(fleet: Fleet) -> None:
    for name in ("w1", "w2", "w3"):
        fleet.worker(name)
    submit(fleet, 8)
    assert [len(fleet.claim(name, 8)) for name in ("w1", "w2", "w3")] == [3, 3, 2]


def test_a_queue_beyond_all_slots_fills_every_worker(fleet: Fleet) -> None:
    fleet.worker("w1")
    fleet.worker("w2")
    submit(fleet, 30)
    assert [len(fleet.claim(name, 8)) for name in ("w1", "w2")] == [8, 8]


def test_a_worker_with_its_share_tells_the_others_once(fleet: Fleet) -> None:
    pubsub = fleet.store.redis.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(fleet.store.keys.wake(MODEL))
    until(lambda: fleet.store.redis.pubsub_numsub(fleet.store.keys.wake(MODEL))[0][1] == 1, what="the subscription")
    fleet.worker("w1")
    submit(fleet, 1)
    [claim] = fleet.claim("w1")
    fleet.worker("w2")
    fleet.submit("next")
    assert fleet.claim("w1", 8) == fleet.claim("w1", 8) == []
    assert until(lambda: pubsub.get_message(timeout=0.05), what="the word to the others")["data"] == b""
    assert pubsub.get_message(timeout=0.1) is None
    assert [each.job for each in fleet.claim("w2")] == ["next"]
    fleet.append("w1", claim, 0, "x", end=Ending("stop"))
    fleet.submit("last")
    assert [each.job for each in fleet.claim("w1")] == ["last"]
    pubsub.close()


def test_a_job_that_waited_for_a_beat_is_anybodys(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(lease_s=120, beat_interval_s=0.1, early_reap_s=0)
    fleet.worker("busy")
    submit(fleet, 1)
    fleet.claim("busy")
    fleet.worker("mute")
    fleet.submit("next")
    assert fleet.claim("busy") == []
    assert [claim.job for claim in until(lambda: fleet.claim("busy"), what="a claim")] == ["next"]


def test_who_missed_a_beat_has_no_share(fleet: Fleet) -> None:
    fleet.worker("w1")
    fleet.worker("silent")
    fleet.store.redis.hset(fleet.store.keys.worker("silent"), "registered", 1)
    submit(fleet, 4)
    assert len(fleet.claim("w1", 8)) == 4
    fleet.beat("silent")
    for number in range(4, 8):
        fleet.submit(f"j{number}")
    assert [len(fleet.claim(name, 8)) for name in ("w1", "silent")] == [0, 4]


def test_who_cannot_take_a_job_has_no_share(fleet: Fleet) -> None:
    fleet.worker("w1")
    fleet.worker("full")
    fleet.worker("leaving")
    fleet.store.run(fleet.commands.beat("leaving", 0, 0, "leaving"))
    fleet.store.redis.hset(fleet.store.keys.worker("full"), "max_running", 0)
    submit(fleet, 4)
    assert len(fleet.claim("w1", 8)) == 4
