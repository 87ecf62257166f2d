"""Records: what becomes certain with each id, after stop sequences and replacements; nothing twice, nothing lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden_worker.text import AnswerText, Vocabulary
from tests.support.seeded import thorough
from tests.unit.text import reference
from tests.unit.text.sequences import Kind, kind, some_ids

PIECES = (None, *(bytes([byte]) for byte in range(256)), b" the##", "駅".encode()[:2], "駅".encode()[2:] + b"x")
VOCABULARY = Vocabulary(PIECES, strip_leading_space=False, control_breaks=False)
END, THE, CUT, REST = 0, 257, 258, 259


def ids_of(text: str) -> list[int]:
    return [1 + byte for byte in text.encode()]


def records(
    ids: list[int], stop: tuple[str, ...] = (), replace: tuple[tuple[str, str], ...] = (), *, ends: bool = True
) -> list[str]:
    answer = AnswerText(VOCABULARY, stop, replace)
    shown: list[str] = []
    for number, token_id in enumerate(ids, 1):
        shown.append(answer.push(token_id, last=ends and number == len(ids)))
        if answer.stopped:
            break
    return shown


def test_only_what_may_become_a_stop_sequence_is_held() -> None:
    assert records(ids_of("aaba#"), ("abc", "b#"), ends=False) == ["", "a", "", "ab", "a#"]


def test_the_last_id_releases_what_is_held() -> None:
    assert records([*ids_of("ab"), CUT], ("abc",)) == ["", "", "ab\ufffd\ufffd"]
    assert records([*ids_of("ab"), END], ("abc",)) == ["", "", "ab"]
    assert records(ids_of("abab"), ("ababc",), (("ab", "x"), ("aba", "y"))) == ["", "", "", "yb"]


def test_without_a_last_id_what_is_held_is_dropped() -> None:
    assert records([*ids_of("ok ab"), CUT], ("abc",), ends=False) == ["o", "k", " ", "", "", ""]


def test_a_stop_sequence_inside_one_token_is_cut_out() -> None:
    assert records([THE, THE], ("h",)) == [" t"]
    assert records([CUT, REST], ("x",)) == ["", "駅"]


def test_a_mark_may_complete_a_stop_sequence() -> None:
    answer = AnswerText(VOCABULARY, ["!\ufffd"])
    assert [answer.push(1 + ord("!")), answer.push(CUT, last=True)] == ["", ""]
    assert answer.stopped


def test_stop_sequences_match_the_models_own_words() -> None:
    assert records(ids_of("a cat"), ("dog",), (("cat", "dog"),)) == ["a", " ", "", "", "dog"]
    assert records(ids_of("a cat"), ("cat",), (("cat", "dog"),)) == ["a", " ", "", "", ""]


def test_what_replacements_held_in_front_of_a_stop_sequence_is_resolved() -> None:
    assert records(ids_of("ab###"), ("###",), (("ab", "x"), ("ab#y", "z"))) == ["", "", "", "", "x"]


def test_no_delta_ends_inside_a_character() -> None:
    assert records([CUT, REST], (), (("駅x", "station"),)) == ["", "station"]


def test_the_replaced_space_is_that_of_the_text() -> None:
    vocabulary = Vocabulary((" a", " "), strip_leading_space=True, control_breaks=True)
    answer = AnswerText(vocabulary, (), [(" ", "_")])
    assert [answer.push(0), answer.push(0), answer.push(1)] == ["a", "_a", "_"]


matches = st.lists(st.text(st.sampled_from("\ufffd #ae日"), min_size=1, max_size=4), max_size=4)


@thorough
@given(some_ids, matches, matches, st.booleans())
def test_records_are_the_references_from_every_cursor(
    sequence: tuple[Kind, list[int]], stops: list[str], olds: list[str], ends: bool
) -> None:
    kind, ids = sequence
    pairs = [(old, "#" * number) for number, old in enumerate(dict.fromkeys(olds))]
    expected, stopped = reference.shown(kind.vocabulary, ids, stops, pairs, ends=ends)
    ids = ids[: len(expected)]
    for cursor in range(len(ids) + 1):
        answer, text = AnswerText(kind.vocabulary, stops, pairs), ""
        for token_id in ids[:cursor]:
            text += answer.push(token_id)
        for number in range(cursor, len(ids)):
            text += answer.push(ids[number], last=ends and number + 1 == len(ids))
            assert text == expected[number]
        if cursor < len(ids):
            assert answer.stopped == stopped


@pytest.mark.parametrize("name", ["byte-level", "sentencepiece"])
def test_sixteen_long_stop_sequences_and_many_pairs_hold_no_more_than_they_must(name: str) -> None:
    found = kind(name)
    text = "the quick brown fox " * 40
    ids = found.tokenizer.encode(text, add_special_tokens=False).ids
    stops = [f"{text[number : number + 255]}{number}!" for number in range(16)]
    answer = AnswerText(found.vocabulary, stops, [(text[at : at + 200] + "?", "!") for at in range(64)])
    shown = "".join(answer.push(token_id, last=number == len(ids)) for number, token_id in enumerate(ids, 1))
    assert shown == text
