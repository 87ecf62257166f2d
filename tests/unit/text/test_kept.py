"""A conversation keeps the ids behind what was shown, and the shown fragment of an id that was cut."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden_worker.text import Kept, Vocabulary, kept_part
from tests.support.seeded import thorough
from tests.unit.text import reference
from tests.unit.text.sequences import Kind, some_ids

# A control id, pieces of text, and the bytes of 駅 in two ids, the second with more.
PIECES = (None, " Hello", " world", "##", "#", " ", " a##", b"\xe9\xa7", b"\x85##", "x ###", "y", b" ? ")
NONE, HELLO, WORLD, TWO, ONE, SPACE, A_TWO, CUT, REST, X_STOP, Y, UNKNOWN = range(len(PIECES))
SENTENCEPIECE = Vocabulary(PIECES, strip_leading_space=True, control_breaks=True)
BYTE_LEVEL = Vocabulary(PIECES, strip_leading_space=False, control_breaks=False)
STOP = ("###",)


@pytest.mark.parametrize("finish_reason", ["stop", "length"])
@pytest.mark.parametrize("ids", [[HELLO, NONE], [HELLO, TWO], [HELLO, CUT], [CUT, CUT, HELLO, NONE], [NONE], []])
def test_an_answer_that_ended_by_itself_keeps_all_its_ids(finish_reason: str, ids: list[int]) -> None:
    for vocabulary in (SENTENCEPIECE, BYTE_LEVEL):
        assert kept_part(vocabulary, ids, STOP, finish_reason=finish_reason) == Kept(len(ids), "")


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([HELLO, TWO, ONE], Kept(1, "")),
        ([HELLO, ONE, ONE, ONE], Kept(1, "")),
        ([HELLO, NONE, TWO, ONE], Kept(2, "")),
        ([HELLO, TWO, NONE, ONE], Kept(1, "")),
        ([HELLO, A_TWO, ONE], Kept(1, " a")),
        ([HELLO, X_STOP], Kept(1, "x ")),
        ([Y, A_TWO, TWO], Kept(1, " a")),
        ([HELLO, CUT, REST, ONE], Kept(1, "駅")),  # a character of two ids, the second of which is cut
        ([HELLO, CUT, X_STOP], Kept(2, "x ")),  # a character that broke keeps its id
        ([TWO, ONE], Kept(0, "")),
        ([X_STOP], Kept(0, "x ")),
    ],
)
def test_a_stop_sequence_takes_its_ids_and_leaves_the_fragment_in_front_of_it(ids: list[int], kept: Kept) -> None:
    for vocabulary in (SENTENCEPIECE, BYTE_LEVEL):
        assert kept_part(vocabulary, ids, STOP, finish_reason="stop") == kept


@pytest.mark.parametrize(
    ("ids", "kept"),
    [
        ([HELLO, WORLD], Kept(2, "")),
        ([HELLO, TWO], Kept(1, "")),
        ([HELLO, A_TWO], Kept(1, " a")),
        ([HELLO, CUT], Kept(1, "")),
        ([HELLO, NONE, NONE], Kept(3, "")),
        ([HELLO, TWO, NONE], Kept(1, "")),
        ([HELLO, ONE, TWO], Kept(1, "")),
        ([TWO], Kept(0, "")),
        ([NONE, CUT], Kept(1, "")),
    ],
)
def test_a_cancelled_answer_keeps_what_was_shown(ids: list[int], kept: Kept) -> None:
    stop = ("###!",) if ids == [HELLO, ONE, TWO] else STOP
    for vocabulary in (SENTENCEPIECE, BYTE_LEVEL):
        assert kept_part(vocabulary, ids, stop, finish_reason="cancelled") == kept


def test_bytes_that_a_control_id_breaks_were_shown_and_are_kept() -> None:
    assert kept_part(SENTENCEPIECE, [HELLO, CUT, NONE], (), finish_reason="cancelled") == Kept(3, "")
    assert kept_part(BYTE_LEVEL, [HELLO, CUT, NONE], (), finish_reason="cancelled") == Kept(1, "")


@pytest.mark.parametrize(
    ("ids", "stop", "kept"),
    [
        ([A_TWO, ONE], "###", Kept(0, " a")),  # shown as "a"
        ([NONE, A_TWO, ONE], "###", Kept(1, " a")),
        ([SPACE, A_TWO, ONE], "###", Kept(1, " a")),  # the first id was the tokenizer's space
        ([X_STOP], "###", Kept(0, "x ")),
        ([HELLO], "Hello", Kept(0, "")),  # nothing was shown
        ([SPACE, HELLO], " Hello", Kept(1, "")),
        ([UNKNOWN], "? ", Kept(0, "  ")),  # of its text the first space was shown, which decoding would drop
        ([NONE, UNKNOWN], "? ", Kept(1, "  ")),
        ([CUT, UNKNOWN], "? ", Kept(1, " ")),
    ],
)
def test_a_tail_at_the_very_start_has_the_tokenizers_own_space(ids: list[int], stop: str, kept: Kept) -> None:
    assert kept_part(SENTENCEPIECE, ids, (stop,), finish_reason="stop") == kept


def test_without_such_a_space_the_tail_is_what_was_shown() -> None:
    assert kept_part(BYTE_LEVEL, [A_TWO, ONE], STOP, finish_reason="stop") == Kept(0, " a")


matches = st.lists(st.text(st.sampled_from("\ufffd #ae日"), min_size=1, max_size=3), max_size=3)


@thorough
@given(some_ids, matches, st.booleans())
def test_kept_ids_and_tail_together_say_what_was_shown(
    sequence: tuple[Kind, list[int]], stops: list[str], cancelled: bool
) -> None:
    kind, ids = sequence
    expected, stopped = reference.shown(kind.vocabulary, ids, stops, (), ends=not cancelled)
    ids, shown = ids[: len(expected)], ["", *expected][-1]
    reason = "stop" if stopped else "cancelled" if cancelled else "length"
    kept = kept_part(kind.vocabulary, ids, stops, finish_reason=reason)
    assert (kept.count, kept.tail) == reference.kept(kind.vocabulary, ids, stops, ends=reason != "cancelled")
    # The tail as one more id: whatever ids it becomes, they are decoded so.
    size = len(kind.vocabulary.pieces)
    vocabulary = replace(kind.vocabulary, pieces=(*kind.vocabulary.pieces, kept.tail))
    said = [token_id if token_id < size else -1 for token_id in ids[: kept.count]]
    said += [size] if kept.tail else []
    assert reference.texts(vocabulary, said)[1][-1] == shown
