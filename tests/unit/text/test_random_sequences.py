"""A long run over random id sequences of both kinds, each checked in every way against the slow reference."""

import random
from collections.abc import Iterator

import pytest

from ekiden_worker.text import AnswerText, Detokenizer, kept_part
from tests.support.seeded import ROUNDS, generator
from tests.unit.text import reference
from tests.unit.text.sequences import INSERTS, KINDS, Kind, kind


def cumulative(deltas: Iterator[str]) -> Iterator[str]:
    text = ""
    for delta in deltas:
        text += delta
        yield text


def check_deltas(kind: Kind, ids: list[int]) -> None:
    """Every step is the certain text: nothing is retracted, nothing held that could be shown, and the end is whole."""
    certain, whole = reference.texts(kind.vocabulary, ids)
    detokenizer = Detokenizer(kind.vocabulary)
    assert ["", *cumulative(map(detokenizer.push, ids))] == certain
    assert certain[-1] + detokenizer.flush() == whole[-1]


def check_answer(kind: Kind, ids: list[int], randomly: random.Random) -> None:
    """Records are those of the reference, also after a resume, and a conversation keeps what was shown."""
    stops = kind.random_matches(randomly, ids, 3)
    pairs = [(old, randomly.choice(INSERTS)) for old in dict.fromkeys(kind.random_matches(randomly, ids, 3))]
    ends = randomly.random() < 0.7
    expected, stopped = reference.shown(kind.vocabulary, ids, stops, pairs, ends=ends)
    ids = ids[: len(expected)]

    answer = AnswerText(kind.vocabulary, stops, pairs)
    records = [answer.push(token_id, last=ends and at + 1 == len(ids)) for at, token_id in enumerate(ids)]
    assert list(cumulative(iter(records))) == expected
    assert answer.stopped == stopped

    if ids:
        cursor = randomly.randrange(len(ids))
        resumed = AnswerText(kind.vocabulary, stops, pairs)
        for token_id in ids[:cursor]:
            resumed.push(token_id)
        for at in range(cursor, len(ids)):
            assert resumed.push(ids[at], last=ends and at + 1 == len(ids)) == records[at]
    check_kept(kind, ids, stops, "stop" if stopped else "length" if ends else "cancelled")


def check_kept(kind: Kind, ids: list[int], stops: list[str], finish_reason: str) -> None:
    kept = kept_part(kind.vocabulary, ids, stops, finish_reason=finish_reason)
    assert (kept.count, kept.tail) == reference.kept(kind.vocabulary, ids, stops, ends=finish_reason != "cancelled")
    if finish_reason == "length":
        assert (kept.count, kept.tail) == (len(ids), "")


@pytest.mark.parametrize("name", KINDS)
def test_every_random_sequence_is_decoded_exactly(name: str) -> None:
    randomly = generator(f"text of {name}")
    for _ in range(-(-ROUNDS // len(KINDS))):
        ids = kind(name).random_ids(randomly)
        check_deltas(kind(name), ids)
        check_answer(kind(name), ids, randomly)
