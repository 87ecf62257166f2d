"""The first stop sequence to be complete ends the text, however it is cut; only what may begin one is held."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden_worker.text.stops import StopSearch
from tests.support.seeded import thorough
from tests.unit.text import reference


def search(stops: list[str], pieces: list[str]) -> list[str]:
    """What each piece makes certain, up to the one that meets a stop sequence, and a last empty one."""
    searching = StopSearch(stops)
    shown: list[str] = []
    for piece in pieces:
        shown.append(searching.push(piece))
        if searching.met:
            return shown
    return [*shown, searching.push("", last=True)]


@pytest.mark.parametrize(
    ("stops", "pieces", "shown"),
    [
        (["###"], ["a#", "#", "#b"], ["a", "", ""]),
        (["###"], ["a##", "b###"], ["a", "##b"]),
        (["b"], ["abc"], ["a"]),
        (["bcd", "c"], ["abcd"], ["ab"]),  # the first to be complete
        (["c", "bc"], ["abc"], ["a"]),  # of two that end together, the longer
        (["abcx", "bc"], ["ab", "c"], ["", "a"]),  # what was held in front of it is shown
        (["aab"], ["aaab"], ["a"]),
        (["abab#", "b#"], ["ababab#"], ["ab"]),
        (["ab", "ab"], ["xab"], ["x"]),
        (["\ufffd"], ["ok\ufffd"], ["ok"]),
        (["🏃‍♀️"], ["🏃", "‍", "♀️"], ["", "", ""]),
        (["abc"], ["ab"], ["", "ab"]),
        ([], ["ab"], ["ab", ""]),
    ],
)
def test_text_ends_before_the_stop_sequence(stops: list[str], pieces: list[str], shown: list[str]) -> None:
    assert search(stops, pieces) == shown


letters = st.sampled_from(["a", "b", "#", "襷"])
words = st.lists(st.text(letters, min_size=1, max_size=6), min_size=1, max_size=6)
pieces = st.lists(st.text(letters, max_size=7), max_size=12)


@thorough
@given(words, pieces)
def test_every_step_is_what_the_slow_reference_says(stops: list[str], pieces: list[str]) -> None:
    searching, text, shown = StopSearch(stops), "", ""
    for piece in pieces:
        before = reference.before_stop(text + piece, stops, len(text))
        shown += searching.push(piece)
        text += piece
        assert searching.met == (before is not None)
        if before is not None:
            assert shown == before
            return
        assert shown == reference.without_possible_stop(text, stops)
    assert shown + searching.push("", last=True) == text


@thorough
@given(words, pieces)
def test_the_cut_into_pieces_changes_nothing(stops: list[str], pieces: list[str]) -> None:
    assert "".join(search(stops, pieces)) == "".join(search(stops, list("".join(pieces))))


@thorough
@given(words, pieces)
def test_a_stop_sequence_is_never_shown(stops: list[str], pieces: list[str]) -> None:
    shown = "".join(search(stops, pieces))
    assert not any(stop in shown for stop in stops)


def test_an_empty_stop_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        StopSearch(["a", ""])
