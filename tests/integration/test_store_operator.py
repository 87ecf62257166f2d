"""What operators see and do, on a real store: search, actions, retries, held queues, drains, and the audit log."""

from collections.abc import Callable

import pytest

from ekiden.jobs import State
from ekiden.memory import decode_turn
from ekiden.store.operator import AgainOutcome, JobFilter
from ekiden.store.types import AppendOutcome, Ending, FirstTurn, NextTurn, SubmitOutcome, WorkerFigures
from tests.support.store_fleet import MODEL, OPERATOR, Fleet, asked


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    return make_fleet(early_reap_s=0)


def failed(fleet: Fleet, job: str, code: str = "engine_error", **fields: str) -> None:
    """A job that ended with an error."""
    fleet.submit(job, **fields)
    [claim] = fleet.claim(fleet.worker(f"w-{job}"))
    assert fleet.append(f"w-{job}", claim, 0, "x", end=Ending("error", code, "It failed."))[0] is AppendOutcome.OK


def test_jobs_are_found_by_every_filter(fleet: Fleet) -> None:
    failed(fleet, "a1", user="ann")
    fleet.submit("a2", user="ann")
    fleet.submit("b1", user="bob")
    assert fleet.found() == ["b1", "a2", "a1"]
    assert fleet.found(state=State.QUEUED) == ["b1", "a2"]
    assert fleet.found(user="ann") == ["a2", "a1"]
    assert fleet.found(user="ann", state=State.ERROR, code="engine_error", model=MODEL) == ["a1"]
    assert fleet.found(worker="w-a1") == ["a1"]
    assert fleet.found(worker="w-a1", state=State.QUEUED) == []
    assert fleet.found(id="b") == ["b1"]
    assert fleet.found(model="another") == []
    created = fleet.store.run(fleet.operator.find(JobFilter(), None, 1, 100)).jobs[0].created_ms
    assert fleet.found(to_ms=created) == ["b1", "a2", "a1"]
    assert fleet.found(from_ms=created + 1) == []


def test_pages_join_to_the_whole_list(fleet: Fleet) -> None:
    for number in range(250):
        fleet.submit(f"j{number}", user="ann" if number % 2 else "bob")
    pages: list[str] = []
    before = None
    while True:
        page = fleet.store.run(fleet.operator.find(JobFilter(user="ann"), before, 30, 10_000))
        pages += [record.id for record in page.jobs]
        before = page.following
        if before is None:
            break
    assert pages == [f"j{number}" for number in range(249, 0, -2)]


def test_a_search_stops_at_its_budget_and_says_where_to_go_on(fleet: Fleet) -> None:
    for number in range(350):
        fleet.submit(f"j{number}", user="ann" if number == 0 else "bob")
    page = fleet.store.run(fleet.operator.find(JobFilter(model=MODEL, id="j0"), None, 10, 100))
    assert page.jobs == []
    steps = 1
    while page.following is not None and not page.jobs:
        page = fleet.store.run(fleet.operator.find(JobFilter(model=MODEL, id="j0"), page.following, 10, 100))
        steps += 1
    assert [record.id for record in page.jobs] == ["j0"]
    assert steps == 4


def test_a_record_that_is_gone_leaves_the_indexes_when_it_is_met(fleet: Fleet) -> None:
    fleet.submit("j1", user="ann")
    fleet.submit("j2", user="ann")
    fleet.store.redis.delete(fleet.store.keys.job("j1"))
    assert fleet.found(user="ann") == ["j2"]
    assert fleet.store.redis.zscore(fleet.store.keys.prefix + "by:user:ann", "j1") is None


def test_a_forgotten_job_leaves_every_index(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(keep_summary_s=0.001)
    fleet.submit("j1", user="ann")
    worker = fleet.worker("w1")
    fleet.answer(worker, "x")
    fleet.beat(worker)
    redis, prefix = fleet.store.redis, fleet.store.keys.prefix
    assert redis.keys(prefix + "job:*") == []
    assert redis.keys(prefix + "by:*") == []


def test_attempts_tell_who_made_which_tokens(fleet: Fleet) -> None:
    fleet.submit("j1")
    [claim] = fleet.claim(fleet.worker("w1"))
    fleet.append("w1", claim, 0, "a", "b")
    fleet.store.run(fleet.commands.handoff("w1"))
    [claim] = fleet.claim(fleet.worker("w2"))
    fleet.append("w2", claim, 2, "c", end=Ending("stop"))
    [record] = fleet.store.run(fleet.operator.find(JobFilter(), None, 1, 100)).jobs
    assert [(a.number, a.worker, a.name, a.tokens) for a in record.attempts] == [
        (1, "w1", "host:1", 0),
        (2, "w2", "host:1", 2),
    ]
    assert fleet.found(worker="w1") == fleet.found(worker="w2") == ["j1"]


@pytest.mark.parametrize(
    ("action", "state", "applies"),
    [
        ("cancel", State.QUEUED, True),
        ("cancel", State.DONE, False),
        ("park", State.QUEUED, True),
        ("park", State.PARKED, False),
        ("resume", State.PARKED, True),
        ("resume", State.QUEUED, False),
        ("priority", State.QUEUED, True),
        ("priority", State.PARKED, True),
        ("priority", State.DONE, False),
    ],
)
def test_an_action_says_whether_it_applies(fleet: Fleet, action: str, state: State, applies: bool) -> None:
    fleet.submit("j1", user="ann")
    if state is State.DONE:
        fleet.answer(fleet.worker("w1"), "x")
    if state is State.PARKED:
        fleet.act("park", "j1")
    assert fleet.act(action, "j1", "nobody") == [(state, applies), (None, False)]
    last = fleet.audit()[-1]
    assert (last["user"], last["key"], last["action"], last["target"]) == (OPERATOR.user, OPERATOR.key, action, "j1")
    assert last["outcome"] == ("done" if applies else "not_applicable")


def test_a_cancel_is_requested_of_a_running_job_and_acknowledged_by_its_worker(fleet: Fleet) -> None:
    fleet.submit("j1", user="ann")
    [claim] = fleet.claim(fleet.worker("w1"))
    assert fleet.act("cancel", "j1") == [(State.RUNNING, True)]
    [record] = fleet.store.run(fleet.operator.find(JobFilter(), None, 1, 100)).jobs
    assert (record.state, record.cancel_asked) == (State.RUNNING, True)
    assert fleet.append("w1", claim, 0, "a")[0] is AppendOutcome.CANCELLED
    assert fleet.view("j1", user="ann").state is State.CANCELLED


def test_a_changed_priority_changes_who_is_next(fleet: Fleet) -> None:
    fleet.submit("j1")
    fleet.submit("j2")
    fleet.act("priority", "j2", priority=5)
    assert [claim.job for claim in fleet.claim(fleet.worker("w1"), 2)] == ["j2", "j1"]


def test_a_failed_job_is_asked_again_as_a_new_one(fleet: Fleet) -> None:
    failed(fleet, "j1", user="ann")
    assert fleet.again("retry", "j1", "n1") is AgainOutcome.NEW
    [record] = [r for r in fleet.store.run(fleet.operator.find(JobFilter(), None, 9, 100)).jobs if r.id == "n1"]
    assert (record.state, record.user, record.retry_of) == (State.QUEUED, "ann", "j1")
    [claim] = fleet.claim("w-j1")
    assert (claim.job, claim.request, claim.records) == ("n1", b"request", [])


def test_poison_is_requeued_and_nothing_else_is(fleet: Fleet) -> None:
    failed(fleet, "j1", code="poison")
    failed(fleet, "j2")
    assert fleet.again("retry", "j1", "n1") is AgainOutcome.NOT_APPLICABLE
    assert fleet.again("requeue", "j2", "n1") is AgainOutcome.NOT_APPLICABLE
    assert fleet.again("requeue", "j1", "n1") is AgainOutcome.NEW
    assert fleet.again("retry", "nobody", "n2") is AgainOutcome.MISSING


def test_a_job_without_its_request_is_not_asked_again(fleet: Fleet) -> None:
    failed(fleet, "j1")
    fleet.store.redis.delete(fleet.store.keys.request("j1"))
    assert fleet.again("retry", "j1", "n1") is AgainOutcome.EXPIRED
    assert fleet.audit()[-1]["outcome"] == "expired"


def test_a_retry_answers_in_its_conversation_unless_that_went_on(fleet: Fleet) -> None:
    worker = fleet.worker("w1")
    place = FirstTurn("c", b"", "Hi")
    assert fleet.submit("j1", "ann", place=place, request=asked("Hi")) is SubmitOutcome.NEW
    [claim] = fleet.claim(worker)
    fleet.append(worker, claim, 0, end=Ending("error", "engine_error", "It failed."))
    assert fleet.again("retry", "j1", "n1") is AgainOutcome.NEW
    fleet.act("cancel", "n1")
    assert fleet.again("retry", "n1", "n2") is AgainOutcome.NEW
    fleet.answer(worker, "HI")
    kept = fleet.conversation("c", "ann")
    assert kept is not None
    assert [decode_turn(turn).answer for turn in kept.turns] == ["HI"]


def test_a_retry_does_not_disturb_a_conversation_that_went_on(fleet: Fleet) -> None:
    worker = fleet.worker("w1")
    assert fleet.submit("j1", place=FirstTurn("c", b"", "Hi"), request=asked("Hi")) is SubmitOutcome.NEW
    fleet.act("cancel", "j1")
    fleet.submit("j2", place=NextTurn("c"), request=asked("Hi"))
    assert fleet.again("retry", "j1", "n1") is AgainOutcome.CONVERSATION_BUSY
    fleet.answer(worker, "HI")
    assert fleet.again("retry", "j1", "n1") is AgainOutcome.CONVERSATION_BUSY


def test_the_same_retry_twice_is_one_job(fleet: Fleet) -> None:
    failed(fleet, "j1", user="ann")
    assert fleet.again("retry", "j1", "n1") is AgainOutcome.NEW
    assert fleet.again("retry", "j1", "n2") is AgainOutcome.AGAIN
    assert fleet.found(user="ann") == ["n1", "j1"]


def test_a_retry_keeps_its_users_limit(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(max_jobs_per_user=1)
    failed(fleet, "j1", user="ann")
    fleet.submit("j2", user="ann")
    assert fleet.again("retry", "j1", "n1") is AgainOutcome.TOO_MANY_JOBS


def test_a_held_queue_gives_nothing_until_it_goes_on(fleet: Fleet) -> None:
    worker = fleet.worker("w1")
    fleet.submit("j1")
    assert fleet.store.run(fleet.operator.hold_queue(MODEL, True, OPERATOR))
    assert fleet.claim(worker) == []
    [queue] = fleet.store.run(fleet.operator.overview()).models
    assert (queue.queued, queue.paused) == (1, True)
    assert fleet.store.run(fleet.operator.hold_queue(MODEL, False, OPERATOR))
    assert [claim.job for claim in fleet.claim(worker)] == ["j1"]
    assert not fleet.store.run(fleet.operator.hold_queue("nobody's", True, OPERATOR))
    assert [entry["action"] for entry in fleet.audit()] == ["pause", "resume_queue"]


def test_a_drained_worker_takes_no_more_and_keeps_what_it_has(fleet: Fleet) -> None:
    worker = fleet.worker("w1")
    fleet.submit("j1")
    [claim] = fleet.claim(worker)
    fleet.submit("j2")
    assert fleet.store.run(fleet.operator.drain(worker, True, False, OPERATOR)) == 0
    assert fleet.claim(worker) == []
    assert fleet.append(worker, claim, 0, "a") == (AppendOutcome.OK, 1)
    assert fleet.store.run(fleet.operator.drain(worker, False, False, OPERATOR)) == 0
    assert [claim.job for claim in fleet.claim(worker)] == ["j2"]
    assert fleet.store.run(fleet.operator.drain("nobody", True, False, OPERATOR)) is None


def test_a_drain_can_move_what_runs_without_a_death(fleet: Fleet) -> None:
    worker, other = fleet.worker("w1"), fleet.worker("w2")
    fleet.submit("j1")
    [claim] = fleet.claim(worker)
    fleet.append(worker, claim, 0, "a")
    assert fleet.store.run(fleet.operator.drain(worker, True, True, OPERATOR)) == 1
    assert fleet.append(worker, claim, 1, "b")[0] is AppendOutcome.FENCED
    [claim] = fleet.claim(other)
    assert (claim.job, [record.text for record in claim.records]) == ("j1", ["a"])
    assert int(fleet.store.redis.hget(fleet.store.keys.job("j1"), "deaths")) == 0


def test_a_suspect_of_killing_workers_does_not_wait_for_a_drained_one(fleet: Fleet) -> None:
    fleet.submit("j1")
    for name in ("w1", "w2"):
        fleet.claim(fleet.worker(name))
        keeper = fleet.worker(f"keeper-{name}")
        fleet.die(name)
        fleet.reap_now(keeper)
        fleet.store.run(fleet.commands.handoff(keeper))
    busy = fleet.worker("w3")
    fleet.submit("j2")
    other = fleet.worker("w4")
    fleet.store.redis.hset(fleet.store.keys.job("j1"), "solo_for", busy)
    fleet.store.run(fleet.operator.drain(busy, True, False, OPERATOR))
    assert [claim.job for claim in fleet.claim(other)] == ["j1"]


def test_only_a_worker_that_allows_it_is_told_to_die(fleet: Fleet) -> None:
    worker = fleet.worker("w1")
    assert fleet.store.run(fleet.operator.kill(worker, OPERATOR)) == "refused"
    assert fleet.store.run(fleet.operator.kill("nobody", OPERATOR)) is None
    assert fleet.audit() == []


def test_what_happens_is_counted(fleet: Fleet) -> None:
    worker = fleet.worker("w1")
    fleet.submit("j1")
    fleet.answer(worker, "a", "b", finish="length")
    fleet.store.run(fleet.commands.beat(worker, 0, 0, "ready", WorkerFigures(kv_usage=0.5), {3: 7}))
    totals = {name.decode(): int(n) for name, n in fleet.store.redis.hgetall(fleet.store.keys.totals).items()}
    assert totals == {"jobs:length": 1, "tokens:prompt": 3, "tokens:completion": 2}
    steps = fleet.store.redis.keys(fleet.store.keys.prefix + "stat:60000:*")
    fields: dict[str, float] = {}
    for step in steps:
        for name, value in fleet.store.redis.hgetall(step).items():
            fields[name.decode()] = fields.get(name.decode(), 0) + float(value)
        assert 0 < fleet.store.redis.ttl(step) <= 87_000
    assert fields["itl:3"] == 7
    assert fields["kv:host:1"] >= 0.5
    assert sum(n for name, n in fields.items() if name.startswith("queue:")) == 1
    assert sum(n for name, n in fields.items() if name.startswith("ttft:")) == 1


def test_moves_are_counted_and_a_park_is_none(fleet: Fleet) -> None:
    fleet.submit("j1")
    fleet.claim(fleet.worker("w1"))
    fleet.store.run(fleet.commands.handoff("w1"))
    fleet.act("park", "j1")
    fleet.act("resume", "j1")
    assert int(fleet.store.redis.hget(fleet.store.keys.totals, "moved")) == 1


def test_writes_to_the_log_are_timed(fleet: Fleet) -> None:
    fleet.submit("j1")
    [claim] = fleet.claim(fleet.worker("w1"))
    fleet.append("w1", claim, 0, "a", "b")
    fleet.append("w1", claim, 2, "c", end=Ending("stop"))
    raw = fleet.store.redis.get(fleet.store.keys.times("j1"))
    assert [int.from_bytes(raw[at : at + 4], "big") for at in range(0, len(raw), 8)] == [2, 3]
    assert fleet.store.redis.ttl(fleet.store.keys.times("j1")) > 0


def test_a_next_turn_that_failed_is_retried_in_its_place(fleet: Fleet) -> None:
    worker = fleet.worker("w1")
    fleet.talk(worker, "one", user="ann")
    assert fleet.submit("j2", "ann", place=NextTurn("c"), request=asked("two")) is SubmitOutcome.NEW
    [claim] = fleet.claim(worker)
    fleet.append(worker, claim, 0, end=Ending("error", "engine_error", "It failed."))
    assert fleet.again("retry", "j2", "n2") is AgainOutcome.NEW
    fleet.answer(worker, "TWO")
    found = fleet.conversation("c", "ann")
    assert found is not None
    assert found.summary.turn_count == 2
