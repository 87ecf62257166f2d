"""text(n) is a pure function of ids and stops: any attempt can go on at any cursor."""

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from ekiden_worker.text import AnswerText, Vocabulary
from tests.support.tokenizers import byte_level_tokenizer

LETTERS = st.text("abc#", max_size=24)
STOPS = st.lists(st.text("abc#", min_size=1, max_size=4), max_size=3)


@cache
def setup() -> tuple[Vocabulary, dict[str, int]]:
    tokenizer = byte_level_tokenizer()
    return Vocabulary.of(tokenizer), {character: tokenizer.token_to_id(character) for character in "abc#"}


def records(ids: list[int], stops: list[str]) -> tuple[list[str], bool]:
    answer = AnswerText(setup()[0], stops)
    out: list[str] = []
    for number, token_id in enumerate(ids):
        out.append(answer.push(token_id, last=number == len(ids) - 1))
        if answer.stopped:
            break
    return out, answer.stopped


@given(LETTERS, STOPS)
def test_text_ends_before_the_first_stop_and_is_whole_without_one(text: str, stops: list[str]) -> None:
    ids = [setup()[1][character] for character in text]
    out, stopped = records(ids, stops)
    ends = [at + len(stop) for stop in stops for at in [text.find(stop)] if at >= 0]
    assert stopped == bool(ends)
    if not ends:
        assert "".join(out) == text
        return
    completed = min(ends)
    start = min(at for stop in stops if (at := text[:completed].find(stop)) >= 0)
    assert "".join(out) == text[:start]
    assert len(out) == completed


@given(LETTERS, STOPS)
def test_pushing_the_same_ids_again_gives_the_same_records(text: str, stops: list[str]) -> None:
    ids = [setup()[1][character] for character in text]
    assert records(ids, stops) == records(ids, stops)
    for cut in range(len(ids)):
        answer = AnswerText(setup()[0], stops)
        so_far = [answer.push(token_id) for token_id in ids[:cut] if not answer.stopped]
        whole, _ = records(ids, stops)
        assert so_far[: len(whole) - 1] == whole[: min(cut, len(whole) - 1)]


def test_only_what_may_become_a_stop_is_held() -> None:
    vocabulary, ids = setup()
    answer = AnswerText(vocabulary, ["abc", "b#"])
    assert [answer.push(ids[c]) for c in "aab"] == ["", "a", ""]
    assert answer.push(ids["a"]) == "ab"
    assert answer.push(ids["#"]) == "a#"


def test_the_last_id_releases_what_is_held() -> None:
    vocabulary, ids = setup()
    answer = AnswerText(vocabulary, ["abc"])
    assert answer.push(ids["a"]) == ""
    assert answer.push(ids["b"], last=True) == "ab"
    assert not answer.stopped


def test_a_stop_inside_one_token_is_cut_out() -> None:
    vocabulary, _ = setup()
    tokenizer = byte_level_tokenizer()
    [token_id] = tokenizer.encode(" the").ids[:1]
    answer = AnswerText(vocabulary, ["h"])
    assert answer.push(token_id) == " t"
    assert answer.stopped
