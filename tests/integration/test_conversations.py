"""Kept conversations in the scripts, against a real Valkey: what is kept of an answer, and who may go on when."""

from collections.abc import Callable

import pytest

from ekiden.jobs import State
from ekiden.memory import KeptTurn, StoredPrompt, encode_messages, encode_prompt
from ekiden.protocol import Message
from ekiden.store.types import ANONYMOUS, AppendOutcome, Claimed, Ending, FirstTurn, NextTurn, SubmitOutcome
from ekiden.wire import Record
from tests.support.store_fleet import MODEL, Fleet, asked

SEED = [Message("system", "Be brief."), Message("user", "Hello"), Message("assistant", "Hi.")]
FIRST = FirstTurn("c", encode_messages(SEED), "A title")


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    return make_fleet(lease_s=0.2, beat_interval_s=0.1, early_reap_s=0, max_queued_jobs=3)


@pytest.fixture
def worker(fleet: Fleet) -> str:
    return fleet.worker("w1")


def test_an_answer_is_kept_with_all_that_its_prompt_was_made_of(fleet: Fleet, worker: str) -> None:
    assert fleet.submit("j1", place=FIRST, request=asked("Why?")) is SubmitOutcome.NEW
    [claim] = fleet.claim(worker)
    assert claim.memory is not None
    assert (claim.memory.turn, claim.memory.seed_messages(), claim.memory.kept_turns()) == (1, SEED, [])
    prompt = StoredPrompt([4, 5], stop=["###"], replace=[("a", "b")])
    fleet.start(worker, claim, prompt, 2)
    fleet.append(worker, claim, 0, "Be", "cause")
    fleet.append(worker, claim, 2, ".", end=Ending("length"))

    view = fleet.conversation()
    assert view is not None
    assert (view.summary.title, view.summary.model, view.summary.busy) == ("A title", MODEL, None)
    assert (view.seed, view.first_turn) == (encode_messages(SEED), 1)
    [turn] = fleet.turns()
    assert turn == KeptTurn(
        request=turn.request,
        prompt=prompt,
        records=[Record(0, "Be"), Record(1, "cause"), Record(2, ".")],
        job="j1",
        finish_reason="length",
        prompt_tokens=2,
        cached_tokens=0,
        ended_ms=view.summary.updated_ms,
    )
    assert (turn.message, turn.answer) == ("Why?", "Because.")

    assert fleet.submit("j2", place=NextTurn("c"), request=asked("And?")) is SubmitOutcome.NEW
    [claim] = fleet.claim(worker)
    assert claim.memory is not None
    assert (claim.memory.turn, claim.memory.seed_messages(), claim.memory.kept_turns()) == (2, SEED, [turn])


def test_an_answer_of_any_length_is_kept_whole(fleet: Fleet, worker: str) -> None:
    lengths = [0, 15, 16, 65_535, 65_536]  # where the encoding of a list's length changes
    for number, length in enumerate(lengths):
        fleet.submit(f"j{number}", place=NextTurn("c") if number else FIRST, request=asked("?"))
        [claim] = fleet.claim(worker)
        fleet.start(worker, claim)
        for at in range(0, length, 5000):
            fleet.append(worker, claim, at, *["x"] * min(5000, length - at))
        fleet.append(worker, claim, length, end=Ending("stop"))
    assert [len(turn.records) for turn in fleet.turns()] == lengths


def test_the_memory_begins_with_the_oldest_turn_that_the_last_prompt_shows(fleet: Fleet, worker: str) -> None:
    fleet.talk(worker, "one", "two", "three")
    fleet.submit("four", place=NextTurn("c"), request=asked("four"))
    fleet.answer(worker, "FOUR", prompt=StoredPrompt([1], first_turn=3, dropped_turns=2))
    fleet.submit("five", place=NextTurn("c"), request=asked("five"))
    [claim] = fleet.claim(worker)
    assert claim.memory is not None
    assert claim.memory.turn == 5
    assert [turn.message for turn in claim.memory.kept_turns()] == ["three", "four"]
    assert len(fleet.turns()) == 4, "what no prompt shows any more is still the user's to read"


# How a job that has shown some text ends.


def done(fleet: Fleet, worker: str, claim: Claimed) -> None:
    fleet.append(worker, claim, 2, end=Ending("stop"))


def engine_error(fleet: Fleet, worker: str, claim: Claimed) -> None:
    fleet.append(worker, claim, 2, end=Ending("error", "engine_error", "It failed."))


def cancelled_by_its_worker(fleet: Fleet, worker: str, claim: Claimed) -> None:
    fleet.append(worker, claim, 2, end=Ending("cancelled"))


def cancelled_with_its_next_record(fleet: Fleet, worker: str, claim: Claimed) -> None:
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j"))
    assert fleet.append(worker, claim, 2)[0] is AppendOutcome.CANCELLED


def cancelled_when_its_worker_dies(fleet: Fleet, worker: str, claim: Claimed) -> None:
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j"))
    fleet.die(worker)
    assert fleet.reap_now(fleet.worker("w2")) == 0


def cancelled_when_its_claim_is_repeated(fleet: Fleet, worker: str, claim: Claimed) -> None:
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j"))
    assert fleet.store.run(fleet.commands.reconcile(worker, [])) == []


def cancelled_in_the_queue_after_a_move(fleet: Fleet, worker: str, claim: Claimed) -> None:
    fleet.store.run(fleet.commands.handoff(worker))
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j"))


def _run_out(fleet: Fleet, limit: str) -> None:
    fleet.store.redis.hset(fleet.store.keys.job("j"), limit, 1)
    fleet.store.redis.zadd(fleet.store.keys.prefix + "timers", {"j": 1})
    fleet.store.run(fleet.commands.poll("r9", []))


def run_timeout(fleet: Fleet, worker: str, claim: Claimed) -> None:
    _run_out(fleet, "run_due")


def abandoned(fleet: Fleet, worker: str, claim: Claimed) -> None:
    _run_out(fleet, "abandon_at")


def queue_timeout(fleet: Fleet, worker: str, claim: Claimed) -> None:
    fleet.store.run(fleet.commands.handoff(worker))
    _run_out(fleet, "queue_due")


def poison(fleet: Fleet, worker: str, claim: Claimed) -> None:
    for death in range(3):
        fleet.die(worker)
        worker = fleet.worker(f"heir{death}")
        fleet.reap_now(worker)
        fleet.claim(worker)


GOOD = [done, cancelled_by_its_worker, cancelled_with_its_next_record, cancelled_when_its_worker_dies]
GOOD += [cancelled_when_its_claim_is_repeated, cancelled_in_the_queue_after_a_move]
BAD = [engine_error, run_timeout, abandoned, queue_timeout, poison]


@pytest.mark.parametrize("end", GOOD + BAD)
def test_every_end_frees_the_conversation_and_errors_leave_no_trace(
    fleet: Fleet, worker: str, end: Callable[[Fleet, str, Claimed], None]
) -> None:
    fleet.submit("j", place=FIRST, request=asked("?"))
    [claim] = fleet.claim(worker)
    fleet.start(worker, claim)
    fleet.append(worker, claim, 0, "a ", "b ")
    assert fleet.summary().busy == "j"
    end(fleet, worker, claim)
    if end in BAD:
        ended = fleet.view("j").ended
        assert ended is not None
        assert ended.code == end.__name__
        assert fleet.said() == []
    else:
        [turn] = fleet.turns()
        assert (turn.answer, turn.finish_reason) == ("a b ", "stop" if end is done else "cancelled")
    assert fleet.store.redis.hget(fleet.store.keys.conversation("c"), "busy") is None
    assert fleet.submit("next", place=NextTurn("c")) is SubmitOutcome.NEW


@pytest.mark.parametrize("reached", ["queued", "claimed", "started"])
def test_what_is_cancelled_before_anything_was_generated_is_not_kept(fleet: Fleet, worker: str, reached: str) -> None:
    fleet.submit("j", place=FIRST, request=asked("?"))
    if reached != "queued":
        [claim] = fleet.claim(worker)
        if reached == "started":
            fleet.start(worker, claim)
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "j"))
    if reached != "queued":
        fleet.store.run(fleet.commands.handoff(worker))
    assert fleet.view("j").state is State.CANCELLED
    assert (fleet.said(), fleet.summary().busy) == ([], None)


def test_a_prompt_that_could_not_be_built_is_an_error_without_a_start(fleet: Fleet, worker: str) -> None:
    fleet.submit("j", place=FIRST, request=asked("?"))
    [claim] = fleet.claim(worker)
    fleet.append(worker, claim, 0, end=Ending("error", "prompt_too_long", "Too long."))
    assert fleet.view("j").state is State.ERROR
    assert (fleet.said(), fleet.summary().busy) == ([], None)


def test_records_wait_for_the_start_that_was_lost_before_them(fleet: Fleet, worker: str) -> None:
    fleet.submit("j", place=FIRST, request=asked("?"))
    [claim] = fleet.claim(worker)
    assert fleet.append(worker, claim, 0, "a", end=Ending("stop")) == (AppendOutcome.RESEND, 0)
    fleet.start(worker, claim)
    assert fleet.append(worker, claim, 0, "a", end=Ending("stop")) == (AppendOutcome.OK, 1)
    assert fleet.said() == [("?", "a")]


def test_one_answer_at_a_time(fleet: Fleet, worker: str) -> None:
    fleet.submit("j1", place=FIRST, request=asked("?"))
    before = fleet.summary()
    assert fleet.submit("j2", place=NextTurn("c")) is SubmitOutcome.CONVERSATION_BUSY
    fleet.claim(worker)
    assert fleet.submit("j2", place=NextTurn("c")) is SubmitOutcome.CONVERSATION_BUSY
    assert fleet.summary() == before
    assert fleet.store.redis.exists(fleet.store.keys.job("j2")) == 0


def test_another_users_conversation_is_as_one_that_is_not_there(fleet: Fleet, worker: str) -> None:
    fleet.submit("a1", "ann", place=FIRST, request=asked("?"))
    for user in (ANONYMOUS, "bob"):
        assert fleet.submit("j", user, place=NextTurn("c")) is SubmitOutcome.CONVERSATION_NOT_FOUND
        assert fleet.submit("j", user, place=NextTurn("none")) is SubmitOutcome.CONVERSATION_NOT_FOUND
        assert fleet.conversation("c", user) is None
    assert fleet.conversation("c", "ann") is not None


def test_a_job_without_a_record_is_no_obstacle(fleet: Fleet, worker: str) -> None:
    fleet.submit("j1", place=FIRST, request=asked("?"))
    [lost] = fleet.claim(worker)
    fleet.start(worker, lost)
    fleet.store.redis.delete(fleet.store.keys.job("j1"))
    assert fleet.summary().busy is None
    assert fleet.submit("j2", place=NextTurn("c"), request=asked("Still there?")) is SubmitOutcome.NEW
    assert fleet.append(worker, lost, 0, "late", end=Ending("stop"))[0] is AppendOutcome.FENCED
    fleet.answer(worker, "Yes.")
    assert fleet.said() == [("Still there?", "Yes.")]


def test_a_job_that_does_not_hold_the_conversation_any_more_writes_nothing(fleet: Fleet, worker: str) -> None:
    fleet.submit("j", place=FIRST, request=asked("?"))
    fleet.store.redis.hset(fleet.store.keys.conversation("c"), "busy", "another")
    fleet.answer(worker, "late")
    assert fleet.said() == []
    assert fleet.store.redis.hget(fleet.store.keys.conversation("c"), "busy") == b"another"


def test_a_second_attempt_has_the_same_memory_and_prompt_and_both_are_one_turn(fleet: Fleet, worker: str) -> None:
    fleet.talk(worker, "one")
    fleet.submit("j", place=NextTurn("c"), request=asked("two"))
    [old] = fleet.claim(worker)
    prompt = StoredPrompt([7], kept=1)
    fleet.start(worker, old, prompt, 5)
    fleet.append(worker, old, 0, "a", "b")
    fleet.die(worker)
    heir = fleet.worker("w2")
    assert fleet.reap_now(heir) == 1
    assert fleet.submit("more", place=NextTurn("c")) is SubmitOutcome.CONVERSATION_BUSY
    [new] = fleet.claim(heir)
    assert (new.memory, new.prompt) == (old.memory, encode_prompt(prompt))
    assert fleet.start(heir, new, StoredPrompt([8]), 9), "it may, but the first prompt stays"
    assert fleet.append(worker, old, 2, "zombie", end=Ending("stop"))[0] is AppendOutcome.FENCED
    assert fleet.append(heir, new, 2, "c", end=Ending("stop")) == (AppendOutcome.OK, 3)
    turn = fleet.turns()[1]
    assert (turn.answer, turn.prompt, turn.prompt_tokens) == ("abc", prompt, 5)


def test_a_repeated_claim_has_the_memory_too(fleet: Fleet, worker: str) -> None:
    fleet.talk(worker, "one")
    fleet.submit("j", place=NextTurn("c"), request=asked("two"))
    claims = fleet.claim(worker)
    assert claims[0].memory is not None
    assert fleet.store.run(fleet.commands.reconcile(worker, [])) == claims


def test_the_same_request_is_the_same_job_whatever_became_of_the_conversation(fleet: Fleet, worker: str) -> None:
    fleet.submit("j1", place=FIRST, client_id="mine", request=asked("?"))
    retold = FirstTurn("other", b"", "")
    assert fleet.submit("j2", place=retold, client_id="mine") is SubmitOutcome.KNOWN
    assert (fleet.view("j1").conversation, fleet.conversation("other")) == ("c", None)
    assert fleet.submit("j2", place=retold, client_id="mine", digest="other") is SubmitOutcome.CONFLICT
    fleet.answer(worker, "a")
    fleet.submit("j3", place=NextTurn("c"), client_id="next", request=asked("?"))
    assert fleet.submit("j4", place=NextTurn("c"), client_id="next") is SubmitOutcome.KNOWN
    fleet.store.run(fleet.commands.delete_conversation(ANONYMOUS, "c"))
    assert fleet.submit("j4", place=NextTurn("c"), client_id="next") is SubmitOutcome.KNOWN
    assert fleet.view("j3").conversation == "c"


def test_a_refused_job_begins_no_conversation(make_fleet: Callable[..., Fleet]) -> None:
    fleet = make_fleet(max_queued_jobs=2, max_jobs_per_user=1)
    fleet.submit("j1", "ann")
    assert fleet.submit("j2", "ann", place=FIRST) is SubmitOutcome.TOO_MANY_JOBS
    fleet.submit("j3", "bob")
    assert fleet.submit("j4", "cem", place=FIRST) is SubmitOutcome.QUEUE_FULL
    keys = fleet.store.keys
    assert fleet.store.redis.exists(keys.conversation("c"), keys.conversations("ann"), keys.conversations("cem")) == 0


def test_a_job_without_a_conversation_makes_none(fleet: Fleet, worker: str) -> None:
    fleet.submit("alone")
    fleet.answer(worker, "a")
    assert fleet.view("alone").conversation is None
    assert fleet.store.redis.keys(fleet.store.keys.conversation("*")) == []
