"""How long conversations are kept, and the list of them: the scripts against a real Valkey."""

import time
from collections.abc import Callable

import pytest

from ekiden.jobs import State
from ekiden.store.types import (
    ANONYMOUS,
    AppendOutcome,
    Ending,
    FirstTurn,
    NextTurn,
    PageEnd,
    SubmitOutcome,
)
from tests.support.store_fleet import Fleet, asked
from tests.support.waiting import until

MakeFleet = Callable[..., Fleet]


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> Fleet:
    return make_fleet()


@pytest.fixture
def worker(fleet: Fleet) -> str:
    return fleet.worker("w1")


def of_conversations(fleet: Fleet) -> set[str]:
    """The keys of all conversations and of their lists."""
    keys = fleet.store.keys
    patterns = (keys.conversation("*"), keys.turns("*"), keys.conversations("*"))
    found = [key for pattern in patterns for key in fleet.store.redis.keys(pattern)]
    return {key.decode().removeprefix(keys.prefix) for key in found}


def ids(fleet: Fleet, user: str = ANONYMOUS, limit: int = 100, after: PageEnd | None = None) -> list[str]:
    page = fleet.store.run(fleet.commands.list_conversations(user, limit, after))
    return [summary.id for summary in page.conversations]


def test_a_conversation_goes_some_time_after_its_last_change(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(keep_conversation_s=0.5)
    worker = fleet.worker("w1")
    started = time.monotonic()
    fleet.talk(worker, "one")
    until(lambda: fleet.conversation() is None)
    assert time.monotonic() - started >= 0.5
    assert fleet.submit("j", place=NextTurn("c")) is SubmitOutcome.CONVERSATION_NOT_FOUND
    assert of_conversations(fleet) == {"user::convs"}
    assert ids(fleet) == []
    assert of_conversations(fleet) == set(), "the list forgets what has expired"


def test_the_list_itself_goes_when_nobody_reads_it(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(keep_conversation_s=0.1, queue_wait_s=0.2, run_limit_s=0.2, park_limit_s=0.2)
    fleet.talk(fleet.worker("w1"), "one")
    until(lambda: of_conversations(fleet) == set())


def test_an_old_entry_leaves_the_list_with_the_next_change(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(keep_conversation_s=0.1, queue_wait_s=0.2, run_limit_s=0.2, park_limit_s=0.2)
    fleet.store.redis.zadd(fleet.store.keys.conversations(ANONYMOUS), {"old": 1})
    fleet.talk(fleet.worker("w1"), "one")
    assert fleet.store.redis.zrange(fleet.store.keys.conversations(ANONYMOUS), 0, -1) == [b"c"]


def test_an_answer_under_way_holds_its_conversation(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(keep_conversation_s=50)
    worker, redis, keys = fleet.worker("w1"), fleet.store.redis, fleet.store.keys
    fleet.talk(worker, "one")
    fleet.submit("j", place=NextTurn("c"), request=asked("two"))
    fleet.store.run(fleet.commands.rename_conversation(ANONYMOUS, "c", "Held"))
    [claim] = fleet.claim(worker)
    assert [redis.pttl(key) for key in (keys.conversation("c"), keys.turns("c"))] == [-1, -1]
    fleet.start(worker, claim)
    fleet.append(worker, claim, 0, "TWO", end=Ending("stop"))
    assert all(0 < redis.pttl(key) <= 50_000 for key in (keys.conversation("c"), keys.turns("c")))


def test_a_conversation_without_a_turn_goes_with_the_summary_of_its_job(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(keep_conversation_s=1000, keep_summary_s=100)
    worker = fleet.worker("w1")
    fleet.submit("j", place=FirstTurn("c", b"", ""), request=asked("?"))
    fleet.answer(worker, "x", finish="error")
    assert fleet.store.redis.ttl(fleet.store.keys.conversation("c")) <= 100
    fleet.submit("j2", place=NextTurn("c"), request=asked("?"))
    fleet.answer(worker, "x")
    assert fleet.store.redis.ttl(fleet.store.keys.conversation("c")) > 100


def test_a_conversation_outlives_the_summaries_of_its_jobs(make_fleet: MakeFleet) -> None:
    fleet = make_fleet(keep_summary_s=1, keep_log_s=1)
    fleet.talk(fleet.worker("w1"), "one")

    def forgotten() -> bool:
        fleet.store.run(fleet.commands.poll("r1", []))
        return fleet.store.redis.zcard(fleet.store.keys.jobs) == 0

    until(forgotten)
    assert fleet.said() == [("one", "ONE")]


def test_nothing_of_a_conversation_lives_for_ever(fleet: Fleet, worker: str) -> None:
    fleet.talk(worker, "one", "two")
    fleet.submit("j", place=NextTurn("c"), request=asked("?"))
    fleet.answer(worker, "x", finish="error")
    keys = of_conversations(fleet)
    assert keys == {"conv:c", "turns:c", "user::convs"}
    assert all(fleet.store.redis.ttl(fleet.store.keys.prefix + key) > 0 for key in keys)


@pytest.mark.parametrize("running", [True, False])
def test_a_deleted_conversation_ends_its_job_and_never_comes_back(fleet: Fleet, worker: str, running: bool) -> None:
    fleet.talk(worker, "one")
    fleet.submit("j", place=NextTurn("c"), request=asked("two"))
    claims = fleet.claim(worker) if running else []
    for claim in claims:
        fleet.start(worker, claim)
        fleet.append(worker, claim, 0, "T")
    assert fleet.store.run(fleet.commands.delete_conversation(ANONYMOUS, "c"))
    assert of_conversations(fleet) == set()
    assert fleet.submit("k", place=NextTurn("c")) is SubmitOutcome.CONVERSATION_NOT_FOUND
    for claim in claims:
        assert fleet.store.run(fleet.commands.beat(worker, 1, 0, "ready")).cancels == ["j"]
        assert fleet.append(worker, claim, 1, "W", end=None)[0] is AppendOutcome.CANCELLED
    assert fleet.view("j").state is State.CANCELLED
    assert of_conversations(fleet) == set()
    assert not fleet.store.run(fleet.commands.delete_conversation(ANONYMOUS, "c"))


def test_an_answer_that_ended_well_all_the_same_is_not_kept_either(fleet: Fleet, worker: str) -> None:
    fleet.submit("j", place=FirstTurn("c", b"", ""), request=asked("?"))
    [claim] = fleet.claim(worker)
    fleet.start(worker, claim)
    fleet.store.run(fleet.commands.delete_conversation(ANONYMOUS, "c"))
    assert fleet.append(worker, claim, 0, "x", end=Ending("stop"))[0] is AppendOutcome.OK
    assert fleet.view("j").state is State.DONE
    assert of_conversations(fleet) == set()


def test_only_its_user_may_read_rename_or_delete_it(fleet: Fleet, worker: str) -> None:
    fleet.talk(worker, "one", user="ann")
    for user in (ANONYMOUS, "bob"):
        assert fleet.conversation("c", user) is None
        assert fleet.store.run(fleet.commands.rename_conversation(user, "c", "Mine")) is None
        assert not fleet.store.run(fleet.commands.delete_conversation(user, "c"))
        assert ids(fleet, user) == []
    assert ids(fleet, "ann") == ["c"]


def test_the_newest_change_is_listed_first(fleet: Fleet, worker: str) -> None:
    for name in "abc":
        fleet.talk(worker, "one", conversation=name)
        _pass_a_millisecond(fleet)
    assert ids(fleet) == ["c", "b", "a"]
    renamed = fleet.store.run(fleet.commands.rename_conversation(ANONYMOUS, "a", "New title"))
    assert renamed == fleet.summary("a")
    assert (renamed.title, renamed.turn_count, renamed.busy) == ("New title", 1, None)
    assert renamed.updated_ms > renamed.created_ms
    _pass_a_millisecond(fleet)
    fleet.submit("j", place=NextTurn("b"), request=asked("two"))
    assert ids(fleet) == ["b", "a", "c"]


def _pass_a_millisecond(fleet: Fleet) -> None:
    def now() -> int:
        seconds, micros = fleet.store.redis.time()
        return int(seconds * 1000 + micros // 1000)

    started = now()
    until(lambda: now() > started)


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_follow_each_other_without_a_gap_also_where_changes_are_of_one_moment(
    fleet: Fleet, worker: str, limit: int
) -> None:
    index, names = fleet.store.keys.conversations(ANONYMOUS), [f"{number:03}" for number in range(12)]
    for name in names:
        fleet.talk(worker, "one", conversation=name)
    for number, name in enumerate(names):
        fleet.store.redis.zadd(index, {name: 10**12 + number // 5})
    found: list[str] = []
    after, more = None, True
    while more:
        page = fleet.store.run(fleet.commands.list_conversations(ANONYMOUS, limit, after))
        assert len(page.conversations) <= limit
        found += [summary.id for summary in page.conversations]
        after, more = page.following, page.following is not None
    assert found == names[::-1]


def test_a_list_of_expired_conversations_is_cleaned_step_by_step(fleet: Fleet, worker: str) -> None:
    index = fleet.store.keys.conversations(ANONYMOUS)
    fleet.talk(worker, "one")
    fleet.store.redis.zadd(index, {"c": 1})
    fleet.store.redis.zadd(index, {f"gone{number}": 2 for number in range(1500)})
    page = fleet.store.run(fleet.commands.list_conversations(ANONYMOUS, 20))
    assert page.conversations == []
    assert page.following is not None
    assert fleet.store.redis.zcard(index) == 501
    assert ids(fleet, after=page.following) == ["c"]
    assert fleet.store.redis.zrange(index, 0, -1) == [b"c"]
