"""Deltas are the decoded text, for both kinds of tokenizer and every id sequence."""

import json
import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from ekiden_worker.text import Detokenizer, UnknownTokenizer, Vocabulary
from tests.support.data import data_file
from tests.support.tokenizers import byte_level_tokenizer, sentencepiece_tokenizer


@cache
def byte_level() -> tuple[Tokenizer, Vocabulary]:
    tokenizer = byte_level_tokenizer()
    return tokenizer, Vocabulary.of(tokenizer)


@cache
def sentencepiece() -> tuple[Tokenizer, Vocabulary]:
    tokenizer = sentencepiece_tokenizer()
    return tokenizer, Vocabulary.of(tokenizer)


def decode(vocabulary: Vocabulary, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(vocabulary)
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.flush()]


def marked(data: bytes) -> str:
    """UTF-8 with one U+FFFD for each byte that is part of no character: the rule, written the slow way."""
    text = ""
    while data:
        for length in (1, 2, 3, 4):
            try:
                text += data[:length].decode()
            except UnicodeDecodeError:
                continue
            data = data[length:]
            break
        else:
            text, data = text + "\ufffd", data[1:]
    return text


def test_every_step_of_the_llama_2_vectors_is_exact() -> None:
    vectors = json.loads(data_file("llama2/vectors/decode.json").read_text())
    vocabulary = Vocabulary.of(Tokenizer.from_file(str(data_file("llama2/tokenizer.json"))))
    for case in vectors["vectors"]:
        detokenizer, text = Detokenizer(vocabulary), ""
        for token_id, expected in zip(case["ids"], case["cumulative"], strict=True):
            text += detokenizer.push(token_id)
            assert expected is None or text == expected, case["ids"]
        assert text + detokenizer.flush() == case["text"], case["ids"]


def test_byte_level_text_equals_the_tokenizers_own_decoding_of_encoded_text() -> None:
    tokenizer, vocabulary = byte_level()
    for text in [
        "Hello, world!",
        "  two  spaces\n\n",
        "日本語のテキスト",
        "👩‍👩‍👧‍👦 émoji",
        "",
        "def f(x):\n\treturn x",
    ]:
        assert "".join(decode(vocabulary, tokenizer.encode(text).ids)) == text


@given(st.lists(st.integers(0, 511)))
def test_byte_level_gives_one_mark_a_bad_byte_and_is_the_whole_stream(ids: list[int]) -> None:
    _, vocabulary = byte_level()
    ids = [token_id % len(vocabulary.pieces) for token_id in ids]
    data = b"".join(piece for token_id in ids if isinstance(piece := vocabulary.pieces[token_id], bytes))
    assert "".join(decode(vocabulary, ids)) == marked(data)


@given(st.lists(st.integers(0, 511)))
def test_nothing_is_held_that_could_be_shown(ids: list[int]) -> None:
    _, vocabulary = byte_level()
    ids = [token_id % len(vocabulary.pieces) for token_id in ids]
    shown = ""
    detokenizer = Detokenizer(vocabulary)
    for number, token_id in enumerate(ids):
        shown += detokenizer.push(token_id)
        data = b"".join(p for i in ids[: number + 1] if isinstance(p := vocabulary.pieces[i], bytes))
        held = len(data) - len(b"".join(c.encode() if c != "\ufffd" else b"?" for c in shown))
        assert held <= 3
        assert marked(data).startswith(shown)


def test_sentencepiece_drops_one_leading_space_and_control_ids_give_nothing() -> None:
    tokenizer, vocabulary = sentencepiece()
    ids = [1, *tokenizer.encode("Hello there", add_special_tokens=False).ids, 2]
    assert "".join(decode(vocabulary, ids)) == "Hello there"
    indented = tokenizer.encode("  x", add_special_tokens=False).ids
    assert "".join(decode(vocabulary, indented)) == "  x"


def test_sentencepiece_bytes_become_characters_or_marks() -> None:
    tokenizer, vocabulary = sentencepiece()
    bytes_of = {byte: tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)}
    ids = [bytes_of[byte] for byte in "駅".encode()]
    assert decode(vocabulary, ids) == ["", "", "駅", ""]
    assert decode(vocabulary, ids[:2]) == ["", "", "\ufffd\ufffd"]
    assert "".join(decode(vocabulary, [ids[0], *tokenizer.encode("ok", add_special_tokens=False).ids])) == "\ufffd ok"
    randomly = random.Random(5)
    for _ in range(2000):
        data = bytes(randomly.choice([0x41, 0xE9, 0xA7, 0x85, 0xF0, 0x9F, 0x80, 0xED, 0xC3]) for _ in range(8))
        text = "".join(decode(vocabulary, [bytes_of[byte] for byte in data]))
        assert text == marked(data)


def test_an_unknown_kind_of_tokenizer_is_refused() -> None:
    tokenizer = Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    with pytest.raises(UnknownTokenizer, match="WordPiece"):
        Vocabulary.of(tokenizer)
