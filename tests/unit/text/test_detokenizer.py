"""Deltas are the decoded text, for both kinds of tokenizer and every id sequence."""

import json

import pytest
from hypothesis import given
from tokenizers import Tokenizer

from ekiden_worker.text import Detokenizer, Vocabulary
from tests.support.data import data_file
from tests.support.seeded import thorough
from tests.support.tokenizers import sentencepiece_tokenizer
from tests.unit.text import reference
from tests.unit.text.sequences import Kind, kind, some_ids


def decode(vocabulary: Vocabulary, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(vocabulary)
    return [*map(detokenizer.push, ids), detokenizer.flush()]


def ids_of(kind: Kind, data: bytes) -> list[int]:
    return [kind.of_bytes[byte] for byte in data]


def test_every_step_of_the_llama_2_vectors_is_exact() -> None:
    vectors = json.loads(data_file("llama2/vectors/decode.json").read_text())
    vocabulary = Vocabulary.of(Tokenizer.from_file(str(data_file("llama2/tokenizer.json"))))
    for case in vectors["vectors"]:
        detokenizer, text = Detokenizer(vocabulary), ""
        for token_id, expected in zip(case["ids"], case["cumulative"], strict=True):
            text += detokenizer.push(token_id)
            assert expected is None or text == expected, case["ids"]
        assert text + detokenizer.flush() == case["text"], case["ids"]


@thorough
@given(some_ids)
def test_every_step_is_the_certain_text_and_the_flush_completes_it(sequence: tuple[Kind, list[int]]) -> None:
    kind, ids = sequence
    certain, whole = reference.texts(kind.vocabulary, ids)
    detokenizer, text = Detokenizer(kind.vocabulary), ""
    for token_id, expected, ending in zip(ids, certain[1:], whole[1:], strict=True):
        text += detokenizer.push(token_id)
        assert text == expected
        assert text + detokenizer.held == ending
    assert text + detokenizer.flush() == whole[-1]
    assert detokenizer.flush() == ""


def test_byte_level_text_equals_the_tokenizers_own_decoding_of_encoded_text() -> None:
    tokenizer, vocabulary = kind("byte-level").tokenizer, kind("byte-level").vocabulary
    for text in [
        "Hello, world!",
        "  two  spaces\n\n",
        "日本語のテキスト",
        "👩‍👩‍👧‍👦 émoji",
        "",
        "def f(x):\n\treturn x",
        "<tool_call>{}",
    ]:
        ids = tokenizer.encode(text).ids
        assert "".join(decode(vocabulary, ids)) == tokenizer.decode(ids) == text


@pytest.mark.parametrize("name", ["byte-level", "sentencepiece"])
@pytest.mark.parametrize(
    ("data", "deltas"),
    [
        ("駅".encode(), ["", "", "駅", ""]),
        ("駅".encode()[:2], ["", "", "\ufffd\ufffd"]),
        (b"\xe9A", ["", "\ufffdA", ""]),
        (b"\xf0\x9f\x8f\xf0\x9f\x8f\x83", ["", "", "", "\ufffd" * 3, "", "", "🏃", ""]),
        (b"\xff\xc0\x80", ["\ufffd", "\ufffd", "\ufffd", ""]),
        (b"\xe0\x80", ["", "\ufffd\ufffd", ""]),  # an overlong form
        (b"\xed\xa0\x80", ["", "\ufffd\ufffd", "\ufffd", ""]),  # half a surrogate
        (b"\xf4\x90\x80", ["", "\ufffd\ufffd", "\ufffd", ""]),  # beyond U+10FFFF
        ("\ufffd".encode(), ["", "", "\ufffd", ""]),
    ],
)
def test_bytes_become_characters_or_marks_as_soon_as_that_is_certain(name: str, data: bytes, deltas: list[str]) -> None:
    assert decode(kind(name).vocabulary, ids_of(kind(name), data)) == deltas


def test_a_control_id_between_bytes_breaks_a_character_of_sentencepiece_alone() -> None:
    whole = "駅".encode()
    for name, deltas in (
        ("byte-level", ["", "", "", "駅", ""]),
        ("sentencepiece", ["", "", "\ufffd\ufffd", "\ufffd", ""]),
    ):
        first, second, third = ids_of(kind(name), whole)
        assert decode(kind(name).vocabulary, [first, second, 1, third]) == deltas


@pytest.mark.parametrize("name", ["byte-level", "sentencepiece"])
def test_ids_outside_the_vocabulary_say_nothing(name: str) -> None:
    size = len(kind(name).vocabulary.pieces)
    assert decode(kind(name).vocabulary, [-1, size, -size, 1 << 70]) == ["", "", "", "", ""]


class TestSentencePiecesLeadingSpace:
    @pytest.fixture
    def vocabulary(self) -> Vocabulary:
        """▁, a letter, a word with its space, control, unknown, a byte."""
        return Vocabulary(
            (" ", "a", " b", None, b" \xe2\x81\x87 ", b" "), strip_leading_space=True, control_breaks=True
        )

    @pytest.mark.parametrize(
        ("ids", "text"),
        [
            ([2, 1], "ba"),
            ([0, 2], " b"),
            ([0, 0, 1], " a"),
            ([1, 2], "a b"),
            ([3, 3, 2], "b"),
            ([0, 3, 2], " b"),
            ([0, 5, 2], "  b"),
            ([5, 1], " a"),
            ([5, 2], "  b"),
            ([4, 2], " \u2047  b"),
            ([3, 4], " \u2047 "),
            ([9, 2], "b"),
            ([6, 2], "b"),
        ],
    )
    def test_it_is_dropped_once_from_the_first_piece_alone(
        self, vocabulary: Vocabulary, ids: list[int], text: str
    ) -> None:
        assert "".join(decode(vocabulary, ids)) == text

    def test_encoded_text_comes_back(self) -> None:
        tokenizer = sentencepiece_tokenizer()
        vocabulary = Vocabulary.of(tokenizer)
        for text in ["Hello there", "  x", " ", "", "\n", "日本 語"]:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert "".join(decode(vocabulary, [1, *ids, 2])) == text
