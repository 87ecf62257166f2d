"""Replacements on streamed text are those of `re.sub` on the whole; only what may still match is held."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekiden_worker.text.replacing import Replacer
from tests.support.seeded import thorough
from tests.unit.text import reference

Pairs = list[tuple[str, str]]


def stream(pairs: Pairs, pieces: list[str]) -> list[str]:
    replacer = Replacer(pairs)
    return [*map(replacer.push, pieces), replacer.push("", last=True)]


@pytest.mark.parametrize(
    ("pairs", "pieces", "shown"),
    [
        ([("cat", "dog")], ["a c", "at", "!"], ["a ", "dog", "!", ""]),
        ([("cat", "dog")], ["ca", "r"], ["", "car", ""]),
        ([("ab", "1"), ("abcd", "2")], ["ab", "c", "d"], ["", "", "2", ""]),  # the longest
        ([("ab", "1"), ("abcd", "2")], ["ab", "cx"], ["", "1cx", ""]),
        ([("ab", "1"), ("abcd", "2"), ("cx", "3")], ["abc", "x"], ["", "13", ""]),
        ([("bcd", "1"), ("abc", "2")], ["abcd"], ["2d", ""]),  # the leftmost
        ([("abcd", "1"), ("bc", "2")], ["abc", "x"], ["", "a2x", ""]),
        ([("a", "aa")], ["aa", "a"], ["aaaa", "aa", ""]),  # what was put in is not read again
        ([("aa", "b"), ("bb", "c")], ["aaaa"], ["bb", ""]),
        ([("a", "")], ["banana"], ["bnn", ""]),
        ([("ab", "1"), ("abcd", "2")], ["abc"], ["", "1c"]),
        ([("a", "1"), ("a", "2")], ["a"], ["2", ""]),
        ([], ["abc"], ["abc", ""]),
    ],
)
def test_the_leftmost_longest_match_is_replaced(pairs: Pairs, pieces: list[str], shown: list[str]) -> None:
    assert stream(pairs, pieces) == shown


letters = st.sampled_from(["a", "b", "c", "襷"])
pairs_of = st.dictionaries(
    st.text(letters, min_size=1, max_size=6), st.text(letters, max_size=4), min_size=1, max_size=6
).map(lambda found: list(found.items()))
pieces_of = st.lists(st.text(letters, max_size=7), max_size=12)


@thorough
@given(pairs_of, pieces_of)
def test_the_joined_text_is_that_of_re_sub(pairs: Pairs, pieces: list[str]) -> None:
    new_of = dict(pairs)
    pattern = "|".join(re.escape(old) for old in sorted(new_of, key=len, reverse=True))
    expected = re.sub(pattern, lambda match: new_of[match[0]], "".join(pieces))
    assert "".join(stream(pairs, pieces)) == expected


@thorough
@given(pairs_of, pieces_of)
def test_every_step_shows_all_that_is_certain(pairs: Pairs, pieces: list[str]) -> None:
    replacer, text, shown = Replacer(pairs), "", ""
    for piece in pieces:
        shown += replacer.push(piece)
        text += piece
        assert shown == reference.replaced(text, pairs, last=False)
    assert shown + replacer.push("", last=True) == reference.replaced(text, pairs, last=True)


def test_an_empty_text_to_replace_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Replacer([("", "x")])
