"""Turns of a kept conversation that are answered again, in the scripts, against a real Valkey."""

from collections.abc import Callable

import pytest

from ekiden.memory import StoredPrompt
from ekiden.store.types import ANONYMOUS, Ending, NextTurn, SubmitOutcome, TurnAgain
from tests.support.store_fleet import Fleet, asked

THREE = [("one", "ONE"), ("two", "TWO"), ("three", "THREE")]


@pytest.fixture
def fleet(make_fleet: Callable[..., Fleet]) -> Fleet:
    return make_fleet(lease_s=0.2, beat_interval_s=0.1, early_reap_s=0)


@pytest.fixture
def worker(fleet: Fleet) -> str:
    """A worker; it has answered three turns."""
    worker = fleet.worker("w1")
    fleet.talk(worker, "one", "two", "three")
    return worker


def again(fleet: Fleet, turn: int, text: str, *, same_prompt: bool = False, version: int = 3) -> SubmitOutcome:
    place = TurnAgain("c", turn, version, same_prompt)
    return fleet.submit("again", place=place, request=asked(text, same_prompt=same_prompt))


def test_another_answer_to_the_last_turn_replaces_it(fleet: Fleet, worker: str) -> None:
    before = fleet.turns()
    assert again(fleet, 3, "three", same_prompt=True) is SubmitOutcome.NEW
    [claim] = fleet.claim(worker)
    assert claim.memory is not None
    assert (claim.memory.turn, claim.memory.kept_turns()) == (3, before), "with the turn whose prompt it takes"
    assert fleet.turns() == before, "which stays until there is another"
    fleet.start(worker, claim)
    fleet.append(worker, claim, 0, "3", end=Ending("stop"))
    assert fleet.said() == [*THREE[:2], ("three", "3")]
    assert fleet.summary().version == 4


def test_an_edited_turn_is_where_the_conversation_forks(fleet: Fleet, worker: str) -> None:
    assert again(fleet, 2, "another two") is SubmitOutcome.NEW
    [claim] = fleet.claim(worker)
    assert claim.memory is not None
    assert (claim.memory.turn, [turn.message for turn in claim.memory.kept_turns()]) == (2, ["one"])
    fleet.start(worker, claim)
    fleet.append(worker, claim, 0, "2", end=Ending("stop"))
    assert fleet.said() == [THREE[0], ("another two", "2")]
    fleet.submit("next", place=NextTurn("c"), request=asked("three"))
    fleet.answer(worker, "3")
    assert fleet.said() == [THREE[0], ("another two", "2"), ("three", "3")]


@pytest.mark.parametrize("same_prompt", [True, False])
def test_the_first_turn_may_be_answered_again(fleet: Fleet, worker: str, same_prompt: bool) -> None:
    before = fleet.turns()
    again(fleet, 1, "one", same_prompt=same_prompt)
    [claim] = fleet.claim(worker)
    assert claim.memory is not None
    assert claim.memory.kept_turns() == (before[:1] if same_prompt else [])
    fleet.start(worker, claim)
    fleet.append(worker, claim, 0, "1", end=Ending("stop"))
    assert fleet.said() == [("one", "1")]


def test_a_cancelled_answer_replaces_the_turn_once_it_has_begun(fleet: Fleet, worker: str) -> None:
    again(fleet, 3, "three", same_prompt=True)
    fleet.store.run(fleet.commands.cancel(ANONYMOUS, "again"))
    assert fleet.said() == THREE
    assert fleet.submit("other", place=TurnAgain("c", 3, 3, same_prompt=True), request=asked("three"))
    fleet.answer(worker, "3…", finish="cancelled")
    assert fleet.said() == [*THREE[:2], ("three", "3…")]


def test_an_error_leaves_every_turn_as_it_was(fleet: Fleet, worker: str) -> None:
    before = fleet.turns()
    again(fleet, 1, "another one")
    fleet.answer(worker, "1", finish="error")
    assert fleet.turns() == before
    summary = fleet.summary()
    assert (summary.version, summary.busy) == (3, None)


def test_what_the_forgotten_turns_showed_is_forgotten_too(fleet: Fleet, worker: str) -> None:
    for number in (4, 5):
        fleet.submit(f"j{number}", place=NextTurn("c"), request=asked(str(number)))
        fleet.answer(worker, "x", prompt=StoredPrompt([1], first_turn=number - 1))
    again(fleet, 4, "short", version=5)
    fleet.answer(worker, "x", prompt=StoredPrompt([1]))
    fleet.submit("next", place=NextTurn("c"), request=asked("5"))
    [claim] = fleet.claim(worker)
    assert claim.memory is not None
    assert [turn.message for turn in claim.memory.kept_turns()] == ["one", "two", "three", "short"]
    fields = fleet.store.redis.hkeys(fleet.store.keys.conversation("c"))
    assert not [field for field in fields if field.startswith(b"first:")]


def test_the_same_prompt_comes_with_what_it_was_made_of(fleet: Fleet, worker: str) -> None:
    fleet.submit("j4", place=NextTurn("c"), request=asked("four"))
    fleet.answer(worker, "FOUR", prompt=StoredPrompt([1], first_turn=3))
    again(fleet, 4, "four", same_prompt=True, version=4)
    [claim] = fleet.claim(worker)
    assert claim.memory is not None
    messages = [turn.message for turn in claim.memory.kept_turns()]
    assert messages[-2:] == ["three", "four"]


def test_a_conversation_that_changed_since_it_was_read_is_busy(fleet: Fleet, worker: str) -> None:
    assert again(fleet, 3, "three", version=2) is SubmitOutcome.CONVERSATION_BUSY
    assert again(fleet, 4, "four") is SubmitOutcome.CONVERSATION_BUSY
    assert again(fleet, 3, "three") is SubmitOutcome.NEW
    place = TurnAgain("c", 3, 3, same_prompt=True)
    assert fleet.submit("second", place=place) is SubmitOutcome.CONVERSATION_BUSY
    assert fleet.submit("third", "ann", place=place) is SubmitOutcome.CONVERSATION_NOT_FOUND
    assert again(fleet, 3, "three") is SubmitOutcome.KNOWN


def test_a_new_title_is_no_change_of_what_was_said(fleet: Fleet, worker: str) -> None:
    fleet.store.run(fleet.commands.rename_conversation(ANONYMOUS, "c", "Numbers"))
    assert again(fleet, 3, "three") is SubmitOutcome.NEW
